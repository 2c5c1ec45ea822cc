"""What the verbs of our own share: a parser whose complaints are one sentence, and its model."""

import argparse
import difflib
import math
import os
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import torch

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.multistep import with_sigmas
from kdlight.errors import InputError
from kdlight.teachers.checkpoint import pick_generator

RECORDS = ("run.json", "summary.json")
"""What a run says of itself in JSON."""
MOST_STEPS = 10_000


class DefaultsFormatter(argparse.HelpFormatter):
    """Names the default behind each option that has one and whose sentence does not say it.

    Lines of a description are wrapped; those that begin with spaces, as examples do, are kept.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines()
        return "\n".join(each if each[:1] == " " else textwrap.fill(each, width) for each in lines)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        says = action.default not in (None, argparse.SUPPRESS, "", [None])
        if not text or not says or not action.option_strings or action.nargs == 0:
            return text
        return text if "default" in text else f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`InputError` instead of printing its usage."""

    def __init__(self, verb: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"python -m kdlight {verb}",
            description=description,
            epilog=f"example:\n  python -m kdlight {example}",
            formatter_class=DefaultsFormatter,
        )

    def typed(self, argv: Sequence[str]) -> frozenset[str]:
        """The options that are given in so many words, also where they say what is the default."""
        untyped = object()
        space = argparse.Namespace(**{action.dest: untyped for action in self._actions})
        found = vars(self.parse_args(argv, space))
        return frozenset(name for name, value in found.items() if value is not untyped)

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: --"):
            word = message.split()[2].partition("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, 1)
            message = f"{word}: no such option" + (f"; did you mean {near[0]}" if near else "")
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help.")


def refuse_idle(
    typed: Iterable[str], names: Iterable[str], wanted: str, found: str = "none"
) -> None:
    """Refuse options that would change nothing beside the others.

    Not those that say how the work is done (``--device``, ``--batch-size``, ``--seed``,
    ``--force``): scripts give them to every command.

    Args:
        typed: Of :meth:`Parser.typed`.
        names: The options that are idle now.
        wanted: What they would take to matter.
        found: What there is in its place.

    Raises:
        InputError: One of them is given.
    """
    typed = set(typed)
    for name in names:
        if name in typed:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: expected {wanted}, found {found}.")


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None


SEEDS = range(2**63)
"""What every generator of random numbers takes."""


def seed(text: str) -> int:
    """A seed, 0 to 2^63 - 1."""
    value = whole(text)
    if value not in SEEDS:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 2^63 - 1, found {text}")
    return value


def positive(text: str) -> int:
    """A whole number above 0."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def step_count(text: str) -> int:
    """Sampling steps, 1 to 10,000: a slip in them would walk for days."""
    value = positive(text)
    if value > MOST_STEPS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_STEPS} steps, found {text}")
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


def add_model(to: argparse.ArgumentParser) -> None:
    """The option ``--model`` of the verbs that take one model of a checkpoint of images."""
    to.add_argument(
        "--model",
        default=None,
        help="student, teacher or another that the checkpoint holds; a name that it does not hold "
        "is answered with those that it does (default: student, or else the first)",
    )


def add_steps(to: argparse.ArgumentParser) -> None:
    """The option ``--steps`` of the verbs that sample once."""
    to.add_argument(
        "--steps",
        type=step_count,
        default=None,
        help="sampling steps (default: the model's own)",
    )


def add_device(to: argparse.ArgumentParser) -> None:
    """The option ``--device``."""
    to.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ... or mps")


def add_force(to: argparse.ArgumentParser) -> None:
    """The option ``--force`` of the verbs that write."""
    to.add_argument(
        "--force",
        action="store_true",
        help="replace even what the output is made of, or the record of a run",
    )


OUTPUTS = ("output", "json", "jsonl", "draft_table")
"""Options that name what is written."""


def inputs_of(options: argparse.Namespace) -> list[Path]:
    """Every file and folder that options name to be read."""
    found: list[Path] = []
    for name, value in vars(options).items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if name not in OUTPUTS:
            found += [each for each in values if isinstance(each, Path)]
    return found


def check_output(
    path: Path,
    suffixes: tuple[str, ...],
    reads: Iterable[Path | None] = (),
    force: bool = False,
    option: str = "--output",
) -> None:
    """Refuse an output file that cannot be written, before the work is done.

    Args:
        path: The file to write; beside a ``.safetensors`` lies a description, ``.json``.
        suffixes: What its name may end in.
        reads: What it is made of.
        force: Whether what is read, and a run's record, may be replaced.
        option: What names the file, for the complaint.

    Raises:
        InputError: An unknown suffix, a folder of that name, a place that takes no files, or
            something that only ``--force`` replaces.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: expected a name ending in {', '.join(suffixes)}.")
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "pipe or a device"
        raise InputError(f"{option} {path}: expected a file, found a {kind}.")
    check_place(path, option)
    if force:
        return
    written = {_real(path)}
    if path.suffix.lower() == ".safetensors":
        written.add(_real(path.with_suffix(".json")))
    for source in (each for each in reads if each is not None):
        read = {_real(source)}
        if source.suffix == ".safetensors":
            read.add(_real(source.with_suffix(".json")))
        inside = path.exists() and (source / "config.json").is_file()
        if read & written or (inside and _real(path).is_relative_to(_real(source))):
            raise InputError(
                f"{option} {path}: expected another file than what it is made of, {source}; "
                "--force replaces it."
            )
    for target in written:
        if _is_record(target) and path.suffix.lower() == ".json":
            raise InputError(
                f"{option} {path}: expected a new file, found a record or a description that "
                "nothing else holds; --force replaces it."
            )


def _real(path: Path) -> Path:
    """Where a path leads; a link that leads to itself stays as it is."""
    return Path(os.path.realpath(path))


def _is_record(path: Path) -> bool:
    """Whether a JSON file is a run's own, or describes a model or tokens beside it."""
    if not path.is_file():
        return False
    if path.name in RECORDS and (path.parent / "config.yaml").is_file():
        return True
    return any(path.with_suffix(suffix).is_file() for suffix in (".safetensors", ".npz"))


def check_place(path: Path, option: str = "--output") -> None:
    """Refuse a place below a file, or in a folder that cannot be written to.

    Raises:
        InputError: It is one of these.
    """
    first = path.parts[0] if path.parts else ""
    if first == "-" or first.startswith("~"):
        raise InputError(
            f"{option} {path}: expected a path, found {first!r}, which nothing here expands; "
            f"./{path} is a place of that name."
        )
    parents = path.absolute().parents
    above = next(each for each in parents if each.exists() or each.is_symlink())
    if not above.exists():
        raise InputError(f"{option} {path}: expected {above} to be a folder, found a broken link.")
    if not above.is_dir():
        raise InputError(f"{option} {path}: expected {above} to be a folder, found a file.")
    try:
        # Not asked but tried: what permissions allow, a disk or a mount may not.
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = "no permission" if isinstance(error, PermissionError) else error.strerror
        raise InputError(f"{option} {path}: cannot write in {above}: {reason}.") from None
