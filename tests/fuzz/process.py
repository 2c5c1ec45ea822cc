"""One command in a process of its own: forked, so that nothing is imported twice."""

import contextlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdlight.cli import program

LIMIT = 60.0
"""Seconds after which a command hangs."""
MEMORY = 4 * 2**30
"""Bytes a command may take on top of what is imported."""
NOBODY = 65534
CRASHED = 99


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        code: Its exit code; negative for the signal that killed it; None if it hung.
        out: What it printed.
        err: What it complained of.
        seconds: How long it took.
    """

    code: int | None
    out: str
    err: str
    seconds: float


def run(
    words: Sequence[str],
    folder: Path,
    limit: float = LIMIT,
    unprivileged: bool = False,
    largest: int | None = None,
) -> Outcome:
    """``python -m kdlight WORDS`` in ``folder``.

    Args:
        words: The verb and what follows it.
        folder: Where it runs.
        limit: Seconds after which it is killed.
        unprivileged: As a user whom permissions hold back, if this process runs as root.
        largest: Bytes that a file may grow to, as if the disk were full then.
    """
    streams = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            _become(words, folder, streams, unprivileged, largest)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(CRASHED)
    handle = os.pidfd_open(child)
    ended = bool(select.select([handle], [], [], limit)[0])
    os.close(handle)
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # As written: what a bar overwrites is told by its carriage returns.
    out, err = (stream.read_bytes().decode(errors="replace") for stream in streams)
    return Outcome(status if ended else None, out, err, time.monotonic() - start)


def _become(
    words: Sequence[str],
    folder: Path,
    streams: Sequence[Path],
    unprivileged: bool,
    largest: int | None,
) -> None:
    """Be the command; never returns."""
    os.setsid()
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.chdir(folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, most))
    if unprivileged and os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    code = program(words)
    # What was printed lands in a file too, whose length is no fault of the program.
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
