"""What the verbs of our own share: a parser whose complaints are one sentence."""

import argparse
from pathlib import Path
from typing import NoReturn

from kdlight.errors import InputError


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
        raise InputError(f"{message}; see {self.prog} --help.")


def positive(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that cannot be written, before the work is done.

    Raises:
        InputError: An unknown suffix, or a folder of that name.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"--output {path}: expected a name ending in {', '.join(suffixes)}.")
    if path.is_dir():
        raise InputError(f"--output {path}: expected a file, found a folder.")
