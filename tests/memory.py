"""The peak memory of a test's own process."""

import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Most memory that this process held since its program was started, in bytes.

    Linux's ``ru_maxrss`` keeps the peak of the process that started this one, so a child of a large
    pytest worker would report the worker; ``VmHWM`` begins anew with the program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
