"""``sample``: draw samples from any generator into a file or a folder."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from kdlight.callbacks.images.pictures import save_grid, save_walk
from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    add_model,
    add_sigmas,
    add_steps,
    check_output,
    check_place,
    inputs_of,
    picked,
    positive,
    refuse_idle,
    seed,
    whole,
)
from kdlight.commands.sample_prompts import run_prompts
from kdlight.commands.sample_speech import run_text
from kdlight.core.memory import check_fits
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.errors import InputError
from kdlight.storage.arrays import write_images
from kdlight.storage.atomic import atomic_folder, atomic_path
from kdlight.storage.pictures import to_bytes

SUFFIXES = (".png", ".gif", ".pt", ".npz")
OF_PICTURES = ("num_samples", "label", "sigmas", "prompts")
OF_SPEECH = ("speaker", "acoustic", "codec", "prompt")


def parser() -> Parser:
    """The options of ``sample``."""
    made = Parser(
        "sample",
        "Draw samples. The same seed gives the same noise for every model and batch size.",
        "sample --checkpoint runs/quickstart/version_0/checkpoints/last.ckpt "
        "--steps 1 --num-samples 100 --output samples.png\n"
        "  python -m kdlight sample --checkpoint runs/formant_prodiff/version_0/checkpoints/"
        'last.ckpt --text "hh-ah-l-ow, w-er-l-d" --speaker 3 --steps 2 --output hello.wav',
    )
    made.add_argument("--checkpoint", type=Path, required=True, help="checkpoint or .safetensors")
    made.add_argument(
        "--output",
        type=Path,
        default=Path("samples.png"),
        help="grid (.png), walk (.gif), samples and labels (.pt, or .npz as OpenAI's: uint8 arr_0 "
        "and arr_1), or a new folder (no suffix) of PNGs; .wav or .flac of a --text",
    )
    made.add_argument("--num-samples", type=positive, default=100, help="how many")
    add_steps(made)
    add_sigmas(made)
    add_model(made)
    made.add_argument(
        "--text",
        default=None,
        help="of a speech synthesiser: what to say, each word a row of phones, hh-ah-l-ow",
    )
    made.add_argument(
        "--speaker", type=whole, default=None, help="in which of its voices (default: 0)"
    )
    made.add_argument(
        "--acoustic",
        type=Path,
        default=None,
        help="of a --checkpoint that writes codes of a text: the model of their other levels",
    )
    made.add_argument("--codec", default=None, help="the codec of these codes")
    made.add_argument(
        "--prompt", type=Path, default=None, help="speech of a voice to speak these codes in"
    )
    made.add_argument(
        "--prompts",
        type=Path,
        default=None,
        help="of a text-to-image model: a file with a prompt a line; --output is then a new folder "
        "with a PNG and its caption for each, as `evaluate captions` takes it",
    )
    made.add_argument("--label", type=whole, default=None, help="one class instead of all in turn")
    made.add_argument("--seed", type=seed, default=0, help="seed of the noise")
    made.add_argument("--batch-size", type=positive, default=500, help="samples at once")
    add_device(made)
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``sample``."""
    made = parser()
    options, typed = made.parse_args(argv), made.typed(argv)
    if options.text is not None:
        refuse_idle(typed, OF_PICTURES, "pictures to draw", "a --text to say")
        run_text(options)
        return
    refuse_idle(typed, OF_SPEECH, "a --text to say")
    if options.prompts is not None:
        refuse_idle(
            typed, ("num_samples",), "samples without --prompts", "prompts, each drawn once"
        )
        run_prompts(options)
        return
    path = options.output
    folder = not path.suffix
    if folder:
        check_folder(path)
    else:
        check_output(path, SUFFIXES, inputs_of(options), options.force)
    generator = picked(options.checkpoint, options.steps, options.model, options.sigmas)
    if options.label is not None and not 0 <= options.label < generator.num_classes:
        classes = generator.num_classes
        known = f"a class from 0 to {classes - 1}" if classes else "none, the model has no classes"
        raise InputError(f"--label: expected {known}, found {options.label}.")
    if folder and not are_images(generator.shape):
        raise InputError(
            f"--output {path}: expected a model of images for a folder of PNGs, found samples of "
            f"shape {generator.shape}; .pt keeps them."
        )
    check_fits("--num-samples", options.num_samples, generator.shape)
    generator = generator.to(options.device)
    drawing = (
        options.num_samples,
        options.steps,
        options.seed,
        options.batch_size,
        options.device,
        options.label,
    )
    if folder:
        write_folder(path, drawn(generator, *drawing))
    elif path.suffix.lower() == ".npz" and are_images(generator.shape):
        parts = ((_bytes(part.images), part.labels) for part in drawn(generator, *drawing))
        channels, height, width = generator.shape
        write_images(path, parts, options.num_samples, (channels, height, width))
    else:
        record = path.suffix.lower() == ".gif"
        write(path, *draw(generator, *drawing, record=record))
    print(path)


class Drawn(NamedTuple):
    """A batch of samples.

    Attributes:
        images: (B, ...), on the host.
        labels: (B,); None if there are no classes.
        states: The recorded states of the walk.
    """

    images: Tensor
    labels: Tensor | None
    states: list[Tensor]


def drawn(
    generator: Generator,
    count: int,
    steps: int | None,
    seed: int,
    batch_size: int,
    device: torch.device,
    label: int | None = None,
    record: bool = False,
) -> Iterator[Drawn]:
    """Samples in batches."""
    batches = noise_for(generator, count, batch_size, seed, device)
    total = math.ceil(count / batch_size)
    for noise, condition in track(batches, "sampling", total, transient=True):
        if label is not None:
            condition = {"label": torch.full_like(condition["label"], label)}
        walk = [noise.cpu()] if record else []

        def remember(
            step: int, sigma: float, x: Tensor, x0: Tensor, walk: list[Tensor] = walk
        ) -> None:
            walk.append(x0.cpu())

        images = generator(noise, condition, steps, remember if record else None).cpu()
        labels = condition["label"].cpu() if "label" in condition else None
        yield Drawn(images, labels, walk)


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
    parts = list(drawn(generator, count, steps, seed, batch_size, device, label, record))
    labels = [part.labels for part in parts if part.labels is not None]
    states = [torch.cat(each) for each in zip(*(part.states for part in parts), strict=True)]
    images = torch.cat([part.images for part in parts])
    return images, torch.cat(labels) if labels else None, states


def are_images(shape: Sequence[int]) -> bool:
    """Whether samples of that shape are pictures, grey or in colour."""
    return len(shape) == 3 and shape[0] in (1, 3)


def _bytes(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise InputError(
            "samples: expected finite pixels to write as bytes, found a NaN or an infinity; .pt "
            "keeps them."
        )
    return to_bytes(images)


def write(path: Path, images: Tensor, labels: Tensor | None, states: list[Tensor]) -> None:
    """Write samples in the format that the suffix names."""
    kind = path.suffix.lower()
    if kind == ".png":
        save_grid(images[:400], path)
        return
    if kind == ".gif":
        save_walk([state[:100] for state in states], path)
        return
    if kind == ".npz" and are_images(images.shape[1:]):
        channels, height, width = images.shape[1:]
        parts = [(_bytes(images), labels)]
        write_images(path, parts, len(images), (channels, height, width))
        return
    contents = {"image": images} | ({} if labels is None else {"label": labels})
    # An open file, because numpy would add a suffix of its own to a name.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if kind == ".pt":
            torch.save(contents, stream)
        else:
            arrays: dict[str, Any] = {name: value.numpy() for name, value in contents.items()}
            np.savez(stream, **arrays)


def check_folder(path: Path) -> None:
    """Refuse a folder that holds something, or a place that takes none, before the work is done.

    Raises:
        InputError: It is one of these.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"--output {path}: expected a new or empty folder, found another.")
    check_place(path)
    check_place(path / "any")  # a broken link


def write_folder(path: Path, parts: Iterable[Drawn]) -> None:
    """Write every image as a PNG, ``000000.png`` and on; the folder is whole or not there."""
    with atomic_folder(path, "000000.png") as work:
        number = 0
        for part in parts:
            for pixels in _bytes(part.images):
                picture = pixels.permute(1, 2, 0).numpy().squeeze()
                Image.fromarray(picture).save(work / f"{number:06d}.png")
                number += 1
