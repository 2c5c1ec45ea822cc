"""Warnings of ours, a line each: held for a moment, because a refusal is one sentence alone."""

import os
import sys
import threading
from typing import TextIO

SECONDS = 5.0
"""How long a warning waits for a refusal. Before the work all is read in less, as a rule."""


class _Held:
    """What is to be said, in the process that is to say it."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, TextIO | None]] = []
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None
        self.process = os.getpid()


_held = _Held()


def warn(text: str, file: TextIO | None = None) -> None:
    """Say ``text`` on stderr as a line of its own, unless the input is refused within seconds."""
    line = f"warning: {' '.join(text.split())}"
    if os.getpid() != _held.process and threading.current_thread() is threading.main_thread():
        _start_anew()
    with _held.lock:
        _held.lines.append((line, file))
        if _held.timer is None:
            _held.timer = threading.Timer(SECONDS, release)
            _held.timer.daemon = True
            _held.timer.start()


def release() -> None:
    """Say what is held."""
    for line, file in _taken():
        print(line, file=file or sys.stderr, flush=True)


def drop() -> None:
    """Forget what is held: the input is refused, and what was warned of with it."""
    _taken()


def _taken() -> list[tuple[str, TextIO | None]]:
    with _held.lock:
        found, _held.lines = _held.lines, []
        if _held.timer is not None:
            _held.timer.cancel()
        _held.timer = None
    return found


def _start_anew() -> None:
    """A process that was forked says what it finds itself, and has no thread of its parent."""
    global _held
    _held = _Held()
