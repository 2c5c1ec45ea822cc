"""Whether a command ended as it ought to."""

import re
import shutil
from pathlib import Path

from tests.fuzz.damage.anything import CANARY
from tests.fuzz.process import Outcome

RAW = re.compile(
    r"NoneType|object is not|has no attribute|unsupported operand|positional argument|enforce fail"
    r"|\.cpp:|\.py:\d|\bint\(\)|codec can't|must be real number|<class '|Errno|invalid literal"
    r"|not supported between|object of type|unhashable|slice indices|indices must be|expected str,"
    r"|too large to convert|Traceback|\[Errno|maximum recursion|argument must be|missing \d"
)
"""Words of Python and its libraries, which tell a user nothing."""
OWN = ("in a row had a gradient that is not finite", "of its codebook", "memory")
"""What may end a run that was asked for what can be tried."""
RUNS = ("fit", "validate", "test", "predict")
"""Verbs whose folder and record stay when they fail."""
CACHES = ("pictures/.latents",)
"""Hidden folders that are to stay."""
SEVERAL = ("encode", "decode", "convert-voice")
"""Verbs that do what can be done of many files before they complain."""


def tree(folder: Path) -> set[str]:
    """All that lies below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fault(
    verb: str, outcome: Outcome, before: set[str], folder: Path, full: bool = False
) -> str | None:
    """What is wrong with the way a command ended; None if nothing is.

    Args:
        verb: Whose.
        outcome: How it ended.
        before: What lay in its folder before.
        folder: Its folder.
        full: Whether its disk was.
    """
    code, _, err, _ = outcome
    if CANARY.exists():
        shutil.rmtree(CANARY)
        return "ran code of a file"
    if code is None:
        return "hung"
    if code not in (0, 1, 2):
        return f"ended with {code}"
    if "Traceback" in outcome.out + err:
        return "a traceback"
    new = tree(folder) - before
    if left := [name for name in new if Path(name).name.startswith(".") and name not in CACHES]:
        return f"left {left[0]}"
    if code == 0:
        return None
    if code == 2 and new and verb not in SEVERAL:
        return f"wrote {min(new)}"
    seen = (line.rpartition("\r")[2] for line in err.split("\n"))  # as a terminal shows it
    lines = [line for line in seen if line.strip()]
    if code == 1:  # what is said of the data stands before what went wrong at work on them
        lines = [line for line in lines if not line.startswith("warning: ")]
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if found := RAW.search(lines[0]):
        return f"not a user's words: {found[0]}"
    if code == 1 and full:
        written = new if verb not in (*SEVERAL, *RUNS) else set()
        return f"wrote {min(written)}" if written else _of_a_full_disk(lines[0])
    if code == 1 and not any(reason in lines[0] for reason in OWN):
        return "bad input called a failure"
    return None


def _of_a_full_disk(line: str) -> str | None:
    said = ("the disk is full", "larger than this disk")
    return None if any(words in line for words in said) else "no word of the full disk"
