"""Ctrl-C and SIGTERM: a stop ends with 130 or 143 and the word "stopped", whenever it comes."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received: list[int] = []
_owner = os.getpid()


def leave_at_once() -> None:
    """End the process as soon as a signal comes, while packages are imported and nothing is begun.

    An exception would surface in the middle of an import, where C code turns it into another one.
    """
    for each in SIGNALS:
        signal.signal(each, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"kdlight: stopped.\n")
    os._exit(128 + number)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Both signals raise ``KeyboardInterrupt(number)`` in this block, so that it can clean up.

    Whatever the block ends in after a signal, such as Lightning's exit, becomes that exception.
    """
    global _owner
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread alone
        return
    _received.clear()
    _owner = os.getpid()
    before = [(each, signal.signal(each, _raise)) for each in SIGNALS]
    try:
        yield
    except BaseException as error:
        if _received:
            raise KeyboardInterrupt(_received[0]) from error
        raise
    finally:
        for each, handler in before:
            signal.signal(each, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _owner:  # a worker of a data loader, which inherits handlers
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    _received.append(number)
    if signal.getsignal(number) is _raise:
        raise KeyboardInterrupt(number)
    # Otherwise Lightning has put its handler in front, and ends between two batches.


@contextlib.contextmanager
def between_batches(say: str) -> Iterator[None]:
    """Ctrl-C is to Lightning what SIGTERM is, which it hears between two batches; a second is not.

    Args:
        say: What to print at the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminate = signal.getsignal(signal.SIGTERM)

    def interrupted(number: int, frame: FrameType | None) -> None:
        if os.getpid() != _owner:
            return
        _received.append(number)
        if len(_received) > 1 or signal.getsignal(signal.SIGTERM) is terminate:
            raise KeyboardInterrupt(number)
        os.write(2, f"{say}\n".encode())
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
