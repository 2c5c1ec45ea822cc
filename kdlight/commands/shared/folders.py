"""Run folders: taken at the last moment before a run starts, given back if it never does."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from kdlight.errors import InputError


def next_folder(parent: Path, kind: str) -> Path:
    """The first ``<kind>_N`` behind all that there are; nothing is created."""
    taken = [
        int(found[1])
        for child in parent.glob(f"{kind}_*")
        if (found := re.fullmatch(rf"{kind}_(\d+)", child.name))
    ]
    return parent / f"{kind}_{max(taken, default=-1) + 1}"


def take_folder(parent: Path, kind: str) -> Path:
    """Create the next ``<kind>_N``; of processes that want it at once each gets its own.

    Raises:
        InputError: It cannot be created.
    """
    while True:
        folder = next_folder(parent, kind)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.is_dir():
                continue  # another run was faster
            raise InputError(f"runs_dir: {parent}: expected a folder, found a file.") from None
        except OSError as error:
            raise InputError(f"runs_dir: cannot create {folder}: {error.strerror}.") from None
        return folder


def give_back(folder: Path) -> None:
    """Remove a folder that :func:`take_folder` made, and those above it that are now empty."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


def check_name(name: str) -> str:
    """The name of a run, which becomes a folder.

    Raises:
        InputError: It names no folder, or one elsewhere.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(f"name: expected the name of a folder, without /, found {name!r}.")
    return name


def checkpoints(folder: Path) -> Iterator[Path]:
    """The last checkpoints of a run folder, or of all versions below a run's name."""
    yield from folder.glob("checkpoints/last.ckpt")
    yield from folder.glob("version_*/checkpoints/last.ckpt")


def newest_checkpoint(folder: Path, asked: str) -> Path:
    """The newest of :func:`checkpoints`.

    Args:
        folder: A run folder, or the folder of a run's name.
        asked: The option that asks, for the message.

    Raises:
        InputError: There is none.
    """
    found = max(checkpoints(folder), key=lambda path: path.stat().st_mtime_ns, default=None)
    if found is None:
        raise InputError(f"{asked}: expected a checkpoints/last.ckpt below {folder}, found none.")
    return found
