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
    Column("kbps", "kbit/s", "", decimals=2),
    Column("log_mel_l1", "Log-mel L1", "", "lower", narrow="Log-mel\nL1"),
    Column("mel_distance", "Mel distance", "", "lower", narrow="Mel\ndist."),
    Column("stft_distance", "STFT distance", "", "lower", narrow="STFT\ndist."),
    Column("si_sdr", "SI-SDR, dB", "", "higher", decimals=2, narrow="SI-SDR\ndB"),
    Column("stoi", "STOI", "", "higher", decimals=3),
    Column("estoi", "ESTOI", "", "higher", decimals=3),
    Column("pesq_wb", "PESQ, wide band", "", "higher", decimals=2, narrow="PESQ\nwb"),
    Column("pesq_nb", "PESQ, narrow band", "", "higher", decimals=2, narrow="PESQ\nnb"),
    Column("visqol", "ViSQOL", "", "higher", decimals=2),
    Column("f0_correlation", "F0 correlation", "", "higher", decimals=3, narrow="F0\ncorr."),
    Column("f0_rmse", "F0 error, Hz", "", "lower", narrow="F0 err.\nHz"),
    Column("dnsmos_ovrl", "DNSMOS", "", "higher", decimals=2),
    Column("dnsmos_sig", "DNSMOS, signal", "", "higher", decimals=2, narrow="DNSMOS\nsig."),
    Column("dnsmos_bak", "DNSMOS, noise", "", "higher", decimals=2, narrow="DNSMOS\nnoise"),
    Column("dnsmos_p808", "DNSMOS, P.808", "", "higher", decimals=2, narrow="DNSMOS\nP.808"),
    Column("speaker_similarity", "Same speaker", "", "higher", decimals=3, narrow="Same\nspeaker"),
    Column("wer", "WER", "%", "lower", scale=100.0, decimals=1),
    Column("wil", "WIL", "%", "lower", scale=100.0, decimals=1),
    Column(
        "wer_reference",
        "WER against original",
        "%",
        "lower",
        scale=100.0,
        decimals=1,
        narrow="WER\nto orig.",
    ),
    Column(
        "wil_reference",
        "WIL against original",
        "%",
        "lower",
        scale=100.0,
        decimals=1,
        narrow="WIL\nto orig.",
    ),
    Column(
        "phone_information",
        "Phone information of the level",
        "%",
        "higher",
        scale=100.0,
        decimals=1,
        narrow="Phone\ninfo.",
    ),
    Column(
        "phone_accuracy",
        "Phone probe of the level",
        "%",
        "higher",
        scale=100.0,
        decimals=1,
        narrow="Phone\nprobe",
    ),
    Column(
        "token_cer",
        "Letter errors from the level",
        "%",
        "lower",
        scale=100.0,
        decimals=1,
        narrow="Token\nCER",
    ),
    Column(
        "token_wer",
        "Word errors from the level",
        "%",
        "lower",
        scale=100.0,
        decimals=1,
        narrow="Token\nWER",
    ),
    Column(
        "speaker_accuracy",
        "Speaker probe of the level",
        "%",
        scale=100.0,
        decimals=1,
        narrow="Speaker\nprobe",
    ),
    Column(
        "teacher_unit_information",
        "Information about the teacher's units",
        "%",
        scale=100.0,
        decimals=1,
        narrow="Teacher\nunits",
    ),
    Column("rtf_encode", "Real-time factor, encoder", "", "lower", narrow="RTF\nenc."),
    Column("rtf_decode", "Real-time factor, decoder", "", "lower", narrow="RTF\ndec."),
    Column("non_finite", "Non-finite", decimals=0),
)

UNSHOWN = {
    *("codebook_size", "frame_rate", "sample_rate", "bitrate", "entropy_bitrate_total", "frames"),
    *("match_frame", "utterances", "seconds", "probed_frames", "phone_chance", "speaker_chance"),
    *("rtf_encode_cpu", "rtf_encode_wall", "rtf_decode_cpu", "rtf_decode_wall"),
}
"""Facts of a codec's rows that are no figures of its quality: they stay in the file."""

_KNOWN = {column.key: column for column in COLUMNS}


def column(key: str) -> Column:
    """The column of ``key``; a key that is not known is taken as a distance, lower being better."""
    label = key.replace("_", " ").capitalize()
    return _KNOWN.get(key) or Column(key, label, better="lower")


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
