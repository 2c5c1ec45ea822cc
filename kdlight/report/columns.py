"""The columns of ``summary.json``: which there are, in which order, and how numbers are written."""

import math
from collections.abc import Iterable
from dataclasses import replace

from kdlight.report.figures import (
    conversion,
    correction,
    images,
    language,
    speech,
    spoken_codes,
    syllables,
    synthesis,
    vision,
)
from kdlight.report.figures.column import Column

FLOOR = "_floor"
"""Suffix of the key that holds a metric's value for as many real images."""

COLUMNS = (
    *vision.COLUMNS,
    *images.COLUMNS,
    *speech.COLUMNS,
    *language.COLUMNS,
    *syllables.COLUMNS,
    *synthesis.COLUMNS,
    *conversion.COLUMNS,
    *correction.COLUMNS,
    *spoken_codes.COLUMNS,
)

UNSHOWN = {
    *("codebook_size", "frame_rate", "sample_rate", "bitrate", "entropy_bitrate_total", "frames"),
    *("match_frame", "utterances", "seconds", "probed_frames", "phone_chance", "speaker_chance"),
    *("rtf_encode_cpu", "rtf_encode_wall", "rtf_decode_cpu", "rtf_decode_wall"),
}
"""Facts of a codec's rows that are no figures of its quality: they stay in the file."""

SPACES = {
    "inception": "Inception's features",
    "transformers": "the features of a transformers model",
    "timm": "the features of a timm model",
}
"""Feature extractors that name their figures, ``frechet_<name>`` and ``kernel_<name>``."""

UNKNOWN = "A figure of this run that kdlight has no word for; lower is taken as better."

_KNOWN = {column.key: column for column in COLUMNS}


def column(key: str) -> Column:
    """The column of ``key``; a key that is not known is taken as a distance, lower being better."""
    if key in _KNOWN:
        return _KNOWN[key]
    label = key.replace("_", " ").capitalize()
    family, _, space = key.partition("_")
    if space in SPACES and f"{family}_features" in _KNOWN:
        alike = _KNOWN[f"{family}_features"]
        word = alike.word.replace("the features of a classifier", SPACES[space])
        label = f"{alike.label.split()[0]} {space}"
        return replace(alike, key=key, label=label, word=word, narrow="")
    return Column(key, label, UNKNOWN, better="lower")


def columns_of(keys: Iterable[str]) -> list[Column]:
    """Columns for the keys of a summary: known ones in their order, others after; no floors."""
    present = {key: None for key in keys if not key.endswith(FLOOR) and key not in UNSHOWN}
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
