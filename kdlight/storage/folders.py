"""Files below a folder, found the same way everywhere."""

import os
import warnings
from collections.abc import Collection
from pathlib import Path

from kdlight.errors import InputError


def files_below(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """Files by the suffixes of their names, sorted; hidden files and folders are skipped.

    Links to folders are followed, each folder once; one that leads back to ``folder`` or above
    it is not followed. A pipe, a socket or a device of such a name is left out, and said.

    Args:
        folder: Where to begin.
        suffixes: In small letters, with their dot; names may have capitals. None takes all files.

    Raises:
        InputError: A folder cannot be read: what lies in it would be left out without a word.
    """
    start = Path(os.path.realpath(folder))
    seen = {start}
    found: list[Path] = []
    odd: list[Path] = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        kept = []
        # In order, so that which of two ways to a folder is taken is the same everywhere.
        for name in sorted(folders):
            real = Path(os.path.realpath(Path(place, name)))
            if not name.startswith(".") and real not in seen and not start.is_relative_to(real):
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        paths = (Path(place, name) for name in files if not name.startswith("."))
        named = [path for path in paths if suffixes is None or path.suffix.lower() in suffixes]
        # A link to nothing too: whoever reads it says so. To open a pipe would wait for ever.
        files_of_it = [path for path in named if path.is_file() or _is_broken_link(path)]
        found += files_of_it
        odd += sorted(set(named) - set(files_of_it))
    if odd:
        others = f" and {len(odd) - 1} others" if len(odd) > 1 else ""
        warnings.warn(f"{odd[0]}{others}: pipes or devices, no files, left out.", stacklevel=2)
    return sorted(found)


def _is_broken_link(path: Path) -> bool:
    """Whether a path is a link that leads nowhere."""
    return path.is_symlink() and not path.exists()


def _refuse(error: OSError) -> None:
    why = "no permission to read" if isinstance(error, PermissionError) else error.strerror
    raise InputError(f"{error.filename}: {why}.")
