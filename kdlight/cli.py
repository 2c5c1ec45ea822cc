"""``python -m kdlight VERB``: picks the verb, turns bad input into one sentence and exit code 2."""

import contextlib
import difflib
import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TextIO

from kdlight import __version__, stops, warned
from kdlight.core.memory import shortage, stay_within
from kdlight.core.trust import trust
from kdlight.errors import InputError
from kdlight.storage.atomic import PLACES, full_disk

VERBS = {
    "fit": ("kdlight.commands.train", "train: a teacher, or a student from a teacher"),
    "validate": ("kdlight.commands.train", "run a configuration's validation on a checkpoint"),
    "test": ("kdlight.commands.train", "measure a checkpoint in full, as at the end of fit"),
    "predict": ("kdlight.commands.train", "sample for the labels of the held-out data"),
    "search": ("kdlight.commands.search", "choose settings by training, with Optuna"),
    "sample": (
        "kdlight.commands.sample",
        "draw samples into a picture, a tensor file or a folder",
    ),
    "generate": ("kdlight.commands.generate", "write text or tokens: prompts, gaps, any sampler"),
    "evaluate": (
        "kdlight.commands.evaluate",
        "measure images, a codec or a language model, ours or any program's",
    ),
    "encode": ("kdlight.commands.encode", "audio files to tokens, with a codec"),
    "decode": ("kdlight.commands.decode", "tokens back to audio files"),
    "convert-voice": ("kdlight.commands.convert_voice", "recordings, said in another voice"),
    "pairs": ("kdlight.commands.pairs", "make pairs of noise and image, to regress onto"),
    "prune": ("kdlight.commands.prune", "cut a language model to a smaller one, to distil next"),
    "score": ("kdlight.commands.score", "score every row or text of a corpus under models"),
    "select": ("kdlight.commands.select", "choose by those scores what to train on"),
    "export": ("kdlight.commands.export", "a model as safetensors, or for another library"),
    "convert": ("kdlight.commands.convert", "a published codec or image model as one of kdlight"),
    "report": ("kdlight.commands.report", "one HTML page over one run or many, with verdicts"),
    "list": ("kdlight.commands.list", "methods, configurations and teachers, a sentence each"),
}

GROUPS = {
    "train": ("fit", "validate", "test", "predict", "search"),
    "use": (
        "sample",
        "generate",
        "encode",
        "decode",
        "convert-voice",
        "pairs",
        "prune",
        "score",
        "select",
    ),
    "judge": ("evaluate", "report"),
    "exchange": ("export", "convert"),
    "look up": ("list",),
}
"""What the verbs are for, in the order of the help."""

# Not the whole checkout: a user's package may lie in it.
ROOT = Path(__file__).resolve().parents[1]
OURS = [ROOT / name for name in ("kdlight", "modules", "datamodules")]

USAGE = """usage: python -m kdlight VERB [options]

{verbs}

Start with:  python -m kdlight fit --config configs/quickstart.yaml
What is:     python -m kdlight list
Help:        python -m kdlight VERB --help
Version:     python -m kdlight --version
Any verb:    --trust PACKAGE lets checkpoints and models name classes of a package of yours
"""


def main(argv: Sequence[str]) -> int:
    """Run one verb.

    Returns:
        0 if it worked, 1 if it failed, 2 if the input was bad, 130 or 143 if it was stopped by
        Ctrl-C or SIGTERM.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs="\n\n".join(_group(title) for title in GROUPS)))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(_versions())
        return 0
    verb, *rest = argv
    if nul := next((word for word in argv if "\0" in word), None):
        return _complain(f"{verb}: expected words without the character NUL, found {nul!r}.")
    try:
        rest = _trusting(rest)
    except InputError as error:
        return _complain(f"{verb}: {error}")
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        return _complain(f"{verb}: expected one of {', '.join(VERBS)}{hint}", name="kdlight:")
    try:
        command = importlib.import_module(VERBS[verb][0])
        with stops.raised(), _full_disks_said_once():
            command.run(verb, rest)
    except InputError as error:
        return _complain(f"{verb}: {error}")
    except KeyboardInterrupt as stop:
        warned.release()
        print(f"kdlight {verb}: stopped.", file=sys.stderr)
        return 128 + int(stop.args[0] if stop.args else signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has read enough
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if os.environ.get("KDLIGHT_DEBUG"):
            raise
        full = full_disk(error)
        if full is not None:
            named = f"{full.filename}: " if full.filename else ""
            return _complain(f"{verb}: failed: {named}{full.strerror}.", code=1)
        if isinstance(error, OSError) and error.errno in PLACES and error.filename:
            return _complain(f"{verb}: {error.filename}: {PLACES[error.errno]}.")
        if lacking := shortage(error):
            return _complain(f"{verb}: failed: {lacking}", code=1)
        reason = str(error) or type(error).__name__
        where = _own_line(error)
        return _complain(f"{verb}: failed: {reason}{where} (KDLIGHT_DEBUG=1 shows where)", code=1)
    return 0


def _group(title: str) -> str:
    """The verbs of a group, a line each."""
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:<{width}}{VERBS[verb][1]}" for verb in GROUPS[title]]
    return "\n".join([f"{title}:", *lines])


@contextlib.contextmanager
def _full_disks_said_once() -> Iterator[None]:
    """A thread that finds the disk full, as TensorBoard's does, leaves the word to the main one."""
    before = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if full_disk(found.exc_value) is None:
            before(found)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _complain(text: str, name: str = "kdlight", code: int = 2) -> int:
    """Say what is wrong in one line, whatever names it holds, and return the exit code."""
    if code == 2:
        warned.drop()
    warned.release()
    line = " ".join(f"{name} {text}".split())
    print(line.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return code


def script() -> int:
    """The console script ``kdlight``: as ``python -m kdlight``, packages in this folder are found.

    They come last, so that a file here takes the place of no package.
    """
    stops.leave_at_once()
    sys.path.append(str(Path.cwd()))
    return program(sys.argv[1:])


def program(argv: Sequence[str]) -> int:
    """:func:`main` in a process of its own, whose memory is bounded and whose libraries are quiet.

    A library's warnings are about our code, not the user's input; ours are one line each.
    """
    stay_within()
    if not os.environ.get("KDLIGHT_DEBUG"):
        for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
            os.environ.setdefault(name, "error")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that is no text would fail the work when all of it is done.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = main(argv)
    warned.release()
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if not _is_installed(Path(filename)):
        warned.warn(str(message), file)


def _versions() -> str:
    known = [f"kdlight {__version__}"]
    for package in ("torch", "lightning", "diffusers", "transformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            known.append(f"{package} {metadata.version(package)}")
    return ", ".join(known)


def _own_line(error: Exception) -> str:
    """Where in the user's own code an error arose: " at my_package/method.py:12", or nothing."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        # Asked last: a file of Python's own may be unreadable to this user.
        if not _is_installed(path) and not any(map(path.is_relative_to, OURS)) and path.is_file():
            return f" at {path.parent.name}/{path.name}:{frame.lineno}"
    return ""


def _is_installed(path: Path) -> bool:
    """Whether a file is of Python or of a package that was installed."""
    return "site-packages" in path.parts or path.is_relative_to(sys.base_prefix)


def _trusting(words: Sequence[str]) -> list[str]:
    """Take every ``--trust PACKAGE`` out of the words and act on it."""
    rest: list[str] = []
    queue = iter(words)
    for word in queue:
        option, equals, package = word.partition("=")
        if option != "--trust":
            rest.append(word)
            continue
        package = package if equals else next(queue, "")
        if not package.isidentifier():
            raise InputError(f"--trust: expected the name of a package, found {package!r}.")
        trust(package)
    return rest
