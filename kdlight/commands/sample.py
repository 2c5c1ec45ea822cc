"""``sample``: draw samples from any generator into a file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from kdlight.callbacks.pictures import save_grid, save_walk
from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    add_sigmas,
    check_output,
    device,
    picked,
    positive,
    whole,
)
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path

SUFFIXES = (".png", ".gif", ".pt", ".npz")


def parser() -> Parser:
    """The options of ``sample``."""
    made = Parser(
        "sample",
        "Draw samples. The same seed gives the same noise for every model and batch size.",
        "sample --checkpoint runs/quickstart/version_0/checkpoints/last.ckpt "
        "--steps 1 --num-samples 100 --output samples.png",
    )
    made.add_argument("--checkpoint", type=Path, required=True, help="checkpoint or .safetensors")
    made.add_argument(
        "--output",
        type=Path,
        default=Path("samples.png"),
        help="grid (.png), walk (.gif), or samples and labels (.pt, .npz)",
    )
    made.add_argument("--num-samples", type=positive, default=100, help="how many")
    made.add_argument("--steps", type=positive, default=None, help="sampling steps")
    add_sigmas(made)
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    made.add_argument("--label", type=whole, default=None, help="one class instead of all in turn")
    made.add_argument("--seed", type=whole, default=0, help="seed of the noise")
    made.add_argument("--batch-size", type=positive, default=500, help="samples at once")
    made.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``sample``."""
    options = parser().parse_args(argv)
    check_output(options.output, SUFFIXES, [options.checkpoint], options.force)
    generator = picked(options.checkpoint, options.steps, options.model, options.sigmas)
    if options.label is not None and not 0 <= options.label < generator.num_classes:
        classes = generator.num_classes
        known = f"a class from 0 to {classes - 1}" if classes else "none, the model has no classes"
        raise InputError(f"--label: expected {known}, found {options.label}.")
    generator = generator.to(options.device)
    images, labels, states = draw(
        generator,
        options.num_samples,
        options.steps,
        options.seed,
        options.batch_size,
        options.device,
        options.label,
        record=options.output.suffix.lower() == ".gif",
    )
    write(options.output, images, labels, states)
    print(options.output)


def draw(
    generator: Generator,
    count: int,
    steps: int | None,
    seed: int,
    batch_size: int,
    device: torch.device,
    label: int | None = None,
    record: bool = False,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Samples (count, ...), their labels if there are classes, the recorded states of the walk."""
    walks: list[list[Tensor]] = []
    images, labels = [], []
    batches = noise_for(generator, count, batch_size, seed, device)
    total = math.ceil(count / batch_size)
    for noise, condition in track(batches, "sampling", total, transient=True):
        if label is not None:
            condition = {"label": torch.full_like(condition["label"], label)}
        walk = [noise.cpu()]

        def remember(
            step: int, sigma: float, x: Tensor, x0: Tensor, walk: list[Tensor] = walk
        ) -> None:
            walk.append(x0.cpu())

        images.append(generator(noise, condition, steps, remember if record else None).cpu())
        walks.append(walk)
        if "label" in condition:
            labels.append(condition["label"].cpu())
    states = [torch.cat(parts) for parts in zip(*walks, strict=True)] if record else []
    return torch.cat(images), torch.cat(labels) if labels else None, states


def write(path: Path, images: Tensor, labels: Tensor | None, states: list[Tensor]) -> None:
    """Write samples in the format that the suffix names."""
    kind = path.suffix.lower()
    if kind == ".png":
        save_grid(images[:400], path)
        return
    if kind == ".gif":
        save_walk([state[:100] for state in states], path)
        return
    contents = {"image": images} | ({} if labels is None else {"label": labels})
    # An open file, because numpy would add a suffix of its own to a name.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if kind == ".pt":
            torch.save(contents, stream)
        else:
            arrays: dict[str, Any] = {name: value.numpy() for name, value in contents.items()}
            np.savez(stream, **arrays)
