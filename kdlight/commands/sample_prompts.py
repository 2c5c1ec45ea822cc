"""``sample --prompts``: a picture of every line of a file, its caption beside it."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from kdlight.commands.parsing.arguments import check_place, picked
from kdlight.diffusion.generator import noise_for
from kdlight.diffusion.latent import LatentGenerator
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.pictures import to_bytes
from kdlight.storage.text import read_lines


def run_prompts(options: argparse.Namespace) -> None:
    """Draw a picture for every prompt into a folder, ``000000.png`` beside ``000000.txt``."""
    path: Path = options.output
    if options.label is not None:
        raise InputError("--label: expected none beside --prompts, which say what to draw.")
    if path.suffix:
        raise InputError(f"--output {path}: expected a folder for --prompts, found a file's name.")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"--output {path}: expected a new or empty folder, found another.")
    check_place(path)
    prompts = [line.strip() for line in read_lines(options.prompts) if line.strip()]
    if not prompts:
        raise InputError(f"--prompts {options.prompts}: expected a prompt a line, found none.")
    generator = picked(options.checkpoint, options.steps, options.model, options.sigmas)
    with atomic_folder(path, "000000.png") as work:
        number = 0
        for images in pictures(options, generator, prompts):
            for pixels in to_bytes(images):
                name = f"{number:06d}"
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(work / f"{name}.png")
                (work / f"{name}.txt").write_text(f"{prompts[number]}\n", encoding="utf-8")
                number += 1
    print(path)


def pictures(options: argparse.Namespace, generator: Any, prompts: list[str]) -> Iterator[Tensor]:
    """Pictures of the prompts in batches, the same noise for every model.

    Raises:
        InputError: The model draws nothing of prompts, or a picture has no finite pixels.
    """
    source = getattr(getattr(generator, "autoencoder", None), "path_or_id", None)
    if not isinstance(generator, LatentGenerator) or generator.prompts is None or source is None:
        raise InputError(
            f"--prompts: expected a text-to-image model in {options.checkpoint}, found none."
        )
    # Text encoders take seconds to import.
    from kdlight.teachers.pipelines.text import TextEncoder, embedded

    encode = TextEncoder(source).to(options.device)
    generator = generator.to(options.device)
    parts = noise_for(generator, len(prompts), options.batch_size, options.seed, options.device)
    start = 0
    total = -(-len(prompts) // options.batch_size)
    for noise, _ in track(parts, "sampling", total, transient=True):
        told = embedded(encode, prompts[start : start + len(noise)])
        start += len(noise)
        condition = {name: rows.to(options.device) for name, rows in told.items()}
        images = generator(noise, condition, options.steps).cpu()
        if not torch.isfinite(images).all():
            raise InputError("samples: expected finite pixels, found a NaN or an infinity.")
        yield images
