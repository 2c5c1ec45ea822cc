"""What a reader has to know about each metric: its name, unit, rounding and which way is better."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "one"]

FLOOR = "_floor"
"""Suffix of the key that holds a metric's value for as many real images."""


@dataclass(frozen=True)
class Column:
    """How one key of ``summary.json`` is shown.

    Attributes:
        key: Key in ``summary.json``.
        label: Heading.
        unit: Written after the number, "" for none.
        better: ``lower``, ``higher``, ``one`` (a ratio that ought to be 1), or None (a plain fact).
        scale: What the stored number is multiplied by before it is shown.
        decimals: Decimals shown; None shows three significant digits.
        narrow: Heading broken into lines for a terminal; "" takes ``label`` as it is.
    """

    key: str
    label: str
    unit: str = ""
    better: Better | None = None
    scale: float = 1.0
    decimals: int | None = None
    narrow: str = ""


COLUMNS = (
    Column("nfe", "NFE", decimals=0),
    Column("frechet_features", "Fréchet features", "%", "lower", narrow="Fréchet\nfeatures"),
    Column("frechet_pixels", "Fréchet pixels", "%", "lower", narrow="Fréchet\npixels"),
    Column("sliced_wasserstein", "Sliced Wasserstein", "", "lower", narrow="Sliced\nWasserst."),
    Column("modes", "Modes", "%", "higher", scale=100.0, decimals=1),
    Column("strays", "Strays", "%", "lower", scale=100.0),
    Column("accuracy", "Accuracy", "%", "higher", scale=100.0, decimals=1, narrow="Accu-\nracy"),
    Column(
        "accuracy_forgotten",
        "Accuracy, forgotten",
        "%",
        "lower",
        scale=100.0,
        decimals=1,
        narrow="Acc.\nforgot.",
    ),
    Column(
        "accuracy_retained",
        "Accuracy, retained",
        "%",
        "higher",
        scale=100.0,
        decimals=1,
        narrow="Acc.\nkept",
    ),
    Column(
        "frechet_features_retained",
        "Fréchet features, retained",
        "%",
        "lower",
        narrow="Fréchet\nf. kept",
    ),
    Column(
        "frechet_pixels_retained",
        "Fréchet pixels, retained",
        "%",
        "lower",
        narrow="Fréchet\np. kept",
    ),
    Column("precision", "Precision", "%", "higher", scale=100.0, decimals=1),
    Column("recall", "Recall", "%", "higher", scale=100.0, decimals=1),
    # Neither way is better: near is a copy, far is no digit at all.
    Column("nearest", "Nearest", narrow="Near-\nest"),
    Column("memorisation", "Memorisation", "", "one", decimals=3, narrow="Memori-\nsation"),
    Column("variance", "Variance", "", "one", decimals=3, narrow="Vari-\nance"),
    Column("kernel_features", "Kernel features", "", "lower"),
    Column("teacher_gap", "Teacher gap", "", "lower", narrow="Teacher\ngap"),
    Column("ms_per_image", "ms / image", "", "lower", narrow="ms per\nimage"),
    Column("speed_up", "Speed-up", "x", "higher", narrow="Speed-\nup"),
    Column("non_finite", "Non-finite", decimals=0),
)
_KNOWN = {column.key: column for column in COLUMNS}


def column(key: str) -> Column:
    """The column of ``key``; a key that is not known is taken as a distance, lower being better."""
    label = key.replace("_", " ").capitalize()
    return _KNOWN.get(key) or Column(key, label, better="lower")


def columns_of(keys: Iterable[str]) -> list[Column]:
    """Columns for the keys of a summary: known ones in their order, others after; no floors."""
    present = {key: None for key in keys if not key.endswith(FLOOR)}
    known = [item for item in COLUMNS if item.key in present]
    return known + [column(key) for key in present if key not in _KNOWN]


def number_text(value: float, column: Column) -> str:
    """``value`` as it is shown, without its unit."""
    value *= column.scale
    if column.decimals is not None:
        return f"{value:,.{column.decimals}f}"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - magnitude)}f}"
