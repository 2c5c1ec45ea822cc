"""What this machine can hold, so that too much is refused and not tried."""

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from kdlight.errors import InputError

GIB = 2**30


def available() -> int | None:
    """Bytes that this process may still take without another being stopped; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    parts = [line.split() for line in lines]
    known = {name: int(value) * 1024 for name, value, *_ in parts}
    return known["MemAvailable:"] + known.get("SwapFree:", 0)


def check_fits(name: str, count: int, shape: Sequence[int], copies: int = 1) -> None:
    """Refuse a number of samples that alone, as float32, are more than the machine can hold.

    Args:
        name: The setting.
        count: Its value.
        shape: Shape of one sample.
        copies: How many tensors of so many samples are held at once.

    Raises:
        InputError: They are.
    """
    there = available()
    needed = count * math.prod(shape) * 4 * copies
    if there is not None and needed > there:
        raise InputError(
            f"{name}: expected what fits into {there / GIB:.1f} GiB of free memory, found {count}, "
            f"whose samples alone take {needed / GIB:.1f} GiB."
        )


def rows_within(most: int, numbers: int, limit: int = 2**26) -> int:
    """Rows to compute at once: those asked for, or fewer where so many would not be held.

    Logits of 250 rows of 128 tokens are 6 GiB for a vocabulary of 49,152, and what is made of them
    as much again.

    Args:
        most: The most rows.
        numbers: Numbers of a row.
        limit: Numbers at once; a single row may have more.
    """
    return max(1, min(most, limit // max(1, numbers)))


def stay_within() -> None:
    """Let an allocation beyond the free memory fail, rather than have the system stop processes.

    Where there is a GPU, whose driver maps far more than it uses, nothing is limited.
    """
    there = available()
    if sys.platform != "linux" or there is None or Path("/dev/nvidiactl").exists():
        return
    import resource  # not on every system

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = pages * resource.getpagesize() + there
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def shortage(error: BaseException) -> str | None:
    """A sentence on an allocation that failed; None if the error is another one."""
    text = str(error)
    if not isinstance(error, MemoryError) and not re.search(
        r"can't allocate memory|out of memory|bad_alloc|Storage size calculation overflowed", text
    ):
        return None
    asked = re.search(r"tried to allocate (\d+) bytes", text)
    more = f"{int(asked[1]) / GIB:.1f} GiB were asked for at once" if asked else "it does not fit"
    there = available()
    free = "" if there is None else f", {there / GIB:.1f} GiB are free"
    return f"memory: {more}{free}; a smaller batch, network or number of samples takes less."
