"""Files and folders that are whole or not there at all, and what killed writers leave of them.

Nothing here imports torch: a page is written in a second.
"""

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kdlight.errors import InputError

DAY = 86_400
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EFBIG: "the file would be larger than this disk or process allows",
}
"""Why a file has no room, by the system's number."""
PLACES = {
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "no permission to write",
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "no such file or folder",
    errno.EISDIR: "expected a file, found a folder",
    errno.EEXIST: "expected a free place, found something else",
    errno.ELOOP: "a link that leads to itself",
    errno.ENAMETOOLONG: "the name is too long",
}
"""What is wrong with a place that is read or written, by the system's number for it."""

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.kdlight-(?P<place>[0-9a-f]{6})-(?P<pid>\d+)-")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well.

    A kill at any moment leaves the old file or the new one, never half of either. What a killed
    process left in this folder is removed.

    Raises:
        OSError: The disk is full; the error names ``path`` whatever the writer said.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent.absolute())
    prefix = _prefix(path.name[:40])  # the rest would make a long name too long
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        try:
            temporary.replace(path)
        except OSError as error:  # a folder of that name: no user knows the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from None
    except Exception as error:
        _raise_if_full(path, temporary, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *marks: str) -> Iterator[Path]:
    """A temporary folder beside ``path`` that replaces it as a whole when the block ends well.

    Args:
        path: Folder to write.
        marks: Files by which an earlier one is known, which may be replaced, as may an empty one.

    Raises:
        InputError: Something else lives at ``path``.
        OSError: The disk is full; the error names ``path``.
    """
    free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not free and not any((path / mark).is_file() for mark in marks):
        raise InputError(f"{path}: expected a new folder or an earlier export.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent.absolute())
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_prefix(path.name)) as name:
        work = Path(name)
        # Inside, because the temporary folder itself is closed to other users.
        (work / "new").mkdir()
        try:
            yield work / "new"
        except Exception as error:
            _raise_if_full(path, work / "probe", error)
            raise
        if path.exists():
            path.rename(work / "old")
        (work / "new").rename(path)


def full_disk(error: BaseException | None) -> OSError | None:
    """What the system says of a full disk, if that is what an error, or one before it, comes from.

    Returns:
        An error with a number and a sentence of :data:`FULL` and, where any of them knew it, the
        name of the file.
    """
    found: OSError | None = None
    while error is not None:
        number, name = None, None
        if isinstance(error, OSError) and error.errno in FULL:
            number, name = error.errno, error.filename
        elif "No space left on device" in str(error):  # safetensors is written in Rust
            number = errno.ENOSPC
        if number is not None and (found is None or found.filename is None):
            found = OSError(number, FULL[number], name)
        error = error.__cause__ or error.__context__
    return found


def _raise_if_full(path: Path, growing: Path, error: Exception) -> None:
    """Name ``path`` if ``error`` comes from a full disk."""
    if isinstance(error, InputError):
        return
    # Writers in C++ keep what the system said to themselves.
    found = full_disk(error) or _no_room_in(growing)
    if found is not None and found.errno is not None:
        raise OSError(found.errno, FULL[found.errno], str(path)) from error


def _no_room_in(path: Path) -> OSError | None:
    """What the system says where a file, as far as it was written, cannot grow."""
    try:
        with path.open("ab") as stream:
            stream.write(bytes(2**20))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return full_disk(error)
    return None


def sweep(folder: Path, below: bool = False) -> None:
    """Remove what writers that were killed left in a folder.

    Only files and folders with this module's own names go, and only if their writer is gone: its
    process has ended or, where it ran on another host or in another container, nothing was
    written for a day. An export that was killed while it replaced an earlier one gives that back.

    Args:
        folder: Where to look.
        below: Whether to look into the folders below it too.
    """
    for path in sorted((folder.rglob if below else folder.glob)(".*.kdlight-*")):
        found = _LEFTOVER.match(path.name)
        if found is None or not _writer_is_gone(path, found["place"], int(found["pid"])):
            continue
        with contextlib.suppress(OSError):
            if not path.is_dir():
                path.unlink()
                continue
            target = path.with_name(found["name"])
            if (path / "old").exists() and not target.exists():
                (path / "old").rename(target)
            shutil.rmtree(path)


@functools.cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _writer_is_gone(path: Path, place: str, pid: int) -> bool:
    if place != _place():
        with contextlib.suppress(OSError):
            newest = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
            return time.time() - newest > DAY
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, and is another user's
    return False


def _prefix(name: str) -> str:
    return f".{name}.kdlight-{_place()}-{os.getpid()}-"


@functools.cache
def _place() -> str:
    """Where a process number means something: this host, and this container on it."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:6]
