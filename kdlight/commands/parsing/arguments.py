"""What the verbs of our own share: a parser whose complaints are one sentence, and its model."""

import argparse
import difflib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.multistep import with_sigmas
from kdlight.errors import InputError
from kdlight.teachers.checkpoint import pick_generator


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`InputError` instead of printing its usage."""

    def __init__(self, verb: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"python -m kdlight {verb}",
            description=description,
            epilog=f"example:\n  python -m kdlight {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: --"):
            word = message.split()[2].partition("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, 1)
            message = f"{word}: no such option" + (f"; did you mean {near[0]}" if near else "")
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help.")


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None


def positive(text: str) -> int:
    """A whole number above 0."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def noise_level(text: str) -> float:
    """A noise level in data units."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a noise level above 0, found {text}")
    return value


def device(text: str) -> torch.device:
    """A device of this machine."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    kind, _, index = text.partition(":")
    if kind not in there or (index and not index.isdigit()):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or mps, found {text!r}")
    if not there[kind] or int(index or 0) >= max(1, torch.cuda.device_count()):
        known = ", ".join(name for name, is_there in there.items() if is_there)
        raise argparse.ArgumentTypeError(
            f"expected a device of this machine ({known}), found {text!r}"
        )
    return torch.device(text)


def add_sigmas(to: argparse._ActionsContainer) -> None:
    """The option ``--sigmas`` of the verbs that sample or keep a consistency student."""
    to.add_argument(
        "--sigmas",
        type=noise_level,
        nargs="+",
        default=None,
        help="noise levels of the later steps of a consistency student, falling, instead of its "
        "own: k of them make k + 1 steps, fewer steps take the first",
    )


def picked(
    checkpoint: Path, steps: int | None, model: str | None, sigmas: Sequence[float] | None = None
) -> Generator:
    """The model that ``--checkpoint``, ``--model``, ``--steps`` and ``--sigmas`` name together.

    Raises:
        InputError: There is none, or it cannot sample in that many steps, or at these levels.
    """
    if sigmas is None:
        return pick_generator(checkpoint, steps, model)
    student = pick_generator(checkpoint, None, model)
    generator = with_sigmas(student, sigmas)
    if steps is None:
        return generator
    if not generator.accepts(steps):
        raise InputError(
            f"--steps: {len(sigmas)} --sigmas make at most {len(sigmas) + 1} steps, found {steps}."
        )
    return with_sigmas(student, sigmas[: steps - 1])


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output file that cannot be written, before the work is done.

    Raises:
        InputError: An unknown suffix, a folder of that name, or a place that takes no files.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"--output {path}: expected a name ending in {', '.join(suffixes)}.")
    if path.is_dir():
        raise InputError(f"--output {path}: expected a file, found a folder.")
    check_place(path)


def check_place(path: Path) -> None:
    """Refuse a place below a file, or in a folder that cannot be written to.

    Raises:
        InputError: It is one of these.
    """
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"--output {path}: expected {above} to be a folder, found a file.")
    if not os.access(above, os.W_OK):
        raise InputError(f"--output {path}: no permission to write in {above}.")
