"""What a reader has to know about one figure."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "one"]


@dataclass(frozen=True)
class Column:
    """How one key of ``summary.json`` is shown.

    Attributes:
        key: Key in ``summary.json``.
        label: Heading.
        word: What it says, in one or two plain sentences; it stands on the page.
        unit: Written after the number, "" for none.
        better: ``lower``, ``higher``, ``one`` (a ratio that ought to be 1), or None (a plain fact).
        scale: What the stored number is multiplied by before it is shown.
        decimals: Decimals shown; None shows three significant digits.
        narrow: Heading broken into lines for a terminal; "" takes ``label`` as it is.
        short: Whether it stands in the short table of a page, above all the others.
    """

    key: str
    label: str
    word: str
    unit: str = ""
    better: Better | None = None
    scale: float = 1.0
    decimals: int | None = None
    narrow: str = ""
    short: bool = False


def share(
    key: str,
    label: str,
    word: str,
    better: Better | None,
    decimals: int | None = 1,
    narrow: str = "",
    short: bool = False,
) -> Column:
    """A share from 0 to 1 that is shown in percent."""
    return Column(key, label, word, "%", better, 100.0, decimals, narrow, short)
