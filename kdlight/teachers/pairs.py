"""Pairs of noise and what a teacher's ODE makes of it, in one file that knows where it is from."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.core.frozen import digest
from kdlight.core.memory import check_fits
from kdlight.core.noise import mix
from kdlight.core.spec import spec_of
from kdlight.diffusion.generator import Generator, draw_labels
from kdlight.diffusion.latent import LatentGenerator
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import require_file

FORMAT = "kdlight-pairs-1"
DETERMINISTIC = ("euler", "heun", "dpmpp_2m", "jump")
"""Samplers that draw nothing on their way."""


def facts_of(teacher: Generator, count: int, steps: int | None, seed: int) -> dict[str, str]:
    """What pairs depend on, as the metadata of their file hold it.

    ``teacher`` is the digest of its weights (:func:`~kdlight.core.frozen.digest`), ``walk`` one of
    all else that its samples follow from: how the network is wrapped, guidance, sampler and levels.
    ``teacher_calls`` are network evaluations for one sample.

    Args:
        teacher: Who makes the images.
        count: Number of pairs.
        steps: Steps of its walk; None for its default.
        seed: Seed of the noise.

    Raises:
        InputError: It cannot walk so many steps, or draws noise on its way; a number is out of
            range.
    """
    steps = teacher.steps[0] if steps is None else steps
    for name, value, least in (("count", count, 1), ("steps", steps, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name}: expected at least {least}, found {value}.")
    if teacher.algorithm not in DETERMINISTIC:
        raise InputError(
            f"teacher: expected a deterministic sampler ({', '.join(DETERMINISTIC)}) to make "
            f"pairs, found {teacher.algorithm}."
        )
    if isinstance(teacher, LatentGenerator):
        raise InputError(
            "teacher: expected a generator whose samples are what its denoiser estimates, "
            "found a LatentGenerator, which decodes them."
        )
    if not teacher.accepts(steps):
        known = ", ".join(str(each) for each in sorted(teacher.steps))
        raise InputError(f"steps: expected {known} as the teacher samples in, found {steps}.")
    try:
        spec = spec_of(teacher.denoiser)
    except TypeError as error:
        raise InputError(f"teacher: {error}, so its pairs could not be told apart.") from None
    walk = [spec, teacher.algorithm, teacher.grid.sigmas(steps).tolist()]
    return {
        "format": FORMAT,
        "teacher": digest(teacher),
        "walk": hashlib.sha256(json.dumps(walk, sort_keys=True).encode()).hexdigest(),
        "count": str(count),
        "steps": str(steps),
        "seed": str(seed),
        "teacher_calls": str(teacher.evaluations(steps)),
    }


def file_name(facts: dict[str, str]) -> str:
    """A name that no other pairs have: who made them, how many, in how many steps, which noise."""
    maker = hashlib.sha256(f"{facts['teacher']} {facts['walk']}".encode()).hexdigest()[:16]
    return f"{maker}_{facts['count']}_{facts['steps']}_{facts['seed']}.safetensors"


def make_pairs(
    teacher: Generator,
    count: int,
    file: Path,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
) -> None:
    """Sample, and write noise, images and labels to a safetensors file when all are there.

    Labels go round the classes. The noise is drawn on the CPU, the same everywhere, and from
    another stream than the noise that samples are measured with.

    Args:
        teacher: Who samples; it is in evaluation mode afterwards and stays on ``device``.
        count: Number of pairs.
        file: Where; the suffix must be ``.safetensors``.
        steps: Steps of the teacher's walk; None for its default.
        seed: Seed of the noise.
        batch_size: Samples at once.
        device: Where the teacher samples.

    Raises:
        InputError: See :func:`facts_of`; or the teacher's samples are not finite.
    """
    if file.suffix != ".safetensors":
        raise InputError(f"{file}: expected a name that ends in .safetensors.")
    facts = facts_of(teacher, count, steps, seed)
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, found {batch_size}.")
    check_fits("count", count, teacher.shape, copies=2)
    teacher.to(device).eval()
    # 0 and 1 are the streams of kdlight.diffusion.generator.noise_for.
    source = torch.Generator().manual_seed(mix(seed, 2))
    tensors = {"noise": torch.randn(count, *teacher.shape, generator=source)}
    tensors |= draw_labels(count, teacher.num_classes)
    images = []
    with tqdm(total=count, desc="Making pairs", delay=2, leave=False, disable=None) as bar:
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            noise = tensors["noise"][part].to(device)
            labels = {"label": tensors["label"][part].to(device)} if "label" in tensors else {}
            images.append(teacher(noise, labels, int(facts["steps"])).cpu())
            if not torch.isfinite(images[-1]).all():
                raise InputError("teacher: expected finite samples, found some that are not.")
            bar.update(len(noise))
    tensors["image"] = torch.cat(images)
    with atomic_path(file) as temporary:
        save_file(tensors, temporary, facts)


def read_pairs(
    file: Path, teacher: Generator, count: int, steps: int | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Read pairs that were made by this teacher and with these settings.

    Args:
        file: What :func:`make_pairs` wrote.
        teacher: Who has to have made them.
        count: Number of pairs there have to be.
        steps: Steps of the teacher's walk; None for its default.
        seed: Seed of their noise.

    Returns:
        ``noise`` and ``image``, (N, *shape) float32, and ``label``, (N,) int64, if there are
        classes.

    Raises:
        InputError: The file is missing, damaged or foreign, or the pairs are others.
    """
    require_file(file)
    asked = facts_of(teacher, count, steps, seed)
    try:
        with safe_open(file, "pt") as stream:
            found = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        raise InputError(f"{file}: truncated, or not a safetensors file.") from None
    for name, expected in asked.items():
        if found.get(name) != expected:
            raise InputError(
                f"{file}: expected pairs of {name} {expected[:16]}, "
                f"found {found.get(name, 'none')[:16]}; they were made otherwise."
            )
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("noise", "image"), (count, *teacher.shape))
    if teacher.num_classes:
        shapes["label"] = (count,)
    there = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if there != shapes:
        raise InputError(f"{file}: expected tensors of shapes {shapes}, found {there}.")
    for name, tensor in tensors.items():
        floating = name != "label"
        fits = tensor.isfinite().all() if floating else _are_labels(tensor, teacher.num_classes)
        if tensor.is_floating_point() != floating or not fits:
            expected = "finite numbers" if floating else f"labels below {teacher.num_classes}"
            raise InputError(f"{file}: {name}: expected {expected}, found something else.")
    return tensors


def _are_labels(values: Tensor, num_classes: int) -> bool:
    return bool(((values >= 0) & (values < num_classes)).all())
