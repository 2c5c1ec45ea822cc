"""PESQ, STOI, ESTOI, ViSQOL and SI-SDR of a degraded utterance against its reference.

Each is a pure function ``(reference (T,), degraded (T,), sample_rate) -> float``. Each returns NaN
where it cannot be computed: one side is silent, not finite, or too short. No figure of a package
stands in for "unknown": pystoi's 1e-5 and PESQ's -1 become NaN here.
"""

import functools
import math
import warnings
from typing import Any

from torch import Tensor
from torchaudio.functional import resample

from kdlight.errors import InputError
from kdlight.metrics.speech.packages import require

# Half of the smallest step of 16-bit audio: what no 16-bit file can hold but as zero.
SILENCE = 2.0**-16
# PESQ refuses less; the others have no frame to compare in less.
SHORTEST = 0.25


def usable(reference: Tensor, degraded: Tensor, shortest: float = 1) -> bool:
    """Whether both sides are finite, not silent and long enough.

    Args:
        reference: Original audio, (T,).
        degraded: What came out of a codec, (T,).
        shortest: Samples that are enough.

    Raises:
        InputError: The two are not one channel of the same length.
    """
    if reference.ndim != 1 or reference.shape != degraded.shape:
        raise InputError(
            f"speech metrics: expected two signals (T,) of one length, "
            f"found {tuple(reference.shape)} and {tuple(degraded.shape)}."
        )
    if len(reference) < max(1, shortest):
        return False
    return all(
        bool(side.isfinite().all()) and side.abs().max().item() > SILENCE
        for side in (reference, degraded)
    )


def _arrays(reference: Tensor, degraded: Tensor, sample_rate: int, target: int) -> list[Any]:
    """Both sides at the rate ``target``, as float64 NumPy arrays."""
    return [
        resample(side.detach().cpu().double(), sample_rate, target).numpy()
        for side in (reference, degraded)
    ]


def _pesq(reference: Tensor, degraded: Tensor, sample_rate: int, rate: int, mode: str) -> float:
    pesq = require("pesq", "pesq", f"pesq_{mode}")
    if not usable(reference, degraded, SHORTEST * sample_rate):
        return float("nan")
    try:
        return float(pesq.pesq(rate, *_arrays(reference, degraded, sample_rate, rate), mode))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return float("nan")


def pesq_wb(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Wide-band PESQ at 16 kHz: MOS-LQO from 1.04 to 4.64, mapped by ITU-T P.862.2.

    Args:
        reference: Original audio, (T,), in [-1, 1].
        degraded: What came out of a codec, (T,).
        sample_rate: In Hz; other rates than 16 kHz are resampled.

    Raises:
        InputError: The package pesq is missing, or the lengths differ.
    """
    return _pesq(reference, degraded, sample_rate, 16_000, "wb")


def pesq_nb(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Narrow-band PESQ at 8 kHz: MOS-LQO from 1.02 to 4.56, mapped by ITU-T P.862.1.

    Arguments and errors as in :func:`pesq_wb`.
    """
    return _pesq(reference, degraded, sample_rate, 8_000, "nb")


def _stoi(reference: Tensor, degraded: Tensor, sample_rate: int, extended: bool) -> float:
    pystoi = require("pystoi", "pystoi", "estoi" if extended else "stoi")
    if not usable(reference, degraded, SHORTEST * sample_rate):
        return float("nan")
    sides = [side.detach().cpu().double().numpy() for side in (reference, degraded)]
    with warnings.catch_warnings():
        # "Not enough STFT frames ... Returning 1e-5": a stand-in, not a figure.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(*sides, sample_rate, extended=extended))
        except RuntimeWarning:
            return float("nan")


def stoi(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), at most 1.

    pystoi resamples to 10 kHz itself. It needs some 0.4 s of speech that is not silent.
    Arguments as in :func:`pesq_wb`.

    Raises:
        InputError: The package pystoi is missing, or the lengths differ.
    """
    return _stoi(reference, degraded, sample_rate, extended=False)


def estoi(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Extended STOI (Jensen and Taal 2016), at most 1; as :func:`stoi` otherwise."""
    return _stoi(reference, degraded, sample_rate, extended=True)


@functools.lru_cache(maxsize=2)
def _visqol_speech(lattice: bool) -> Any:
    """ViSQOL in speech mode with one of its mappings, made once: it loads a model."""
    made = require("visqol-python", "visqol", "visqol").VisqolApi()
    made.create(mode="speech", use_lattice_model=lattice)
    return made


def visqol_lattice(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """ViSQOL v3 in speech mode at 16 kHz: MOS-LQO from 1 to 5 (Chinen et al. 2020).

    A lattice network maps similarity to opinion, as Google's program does by default. Arguments as
    in :func:`pesq_wb`.

    Raises:
        InputError: The package visqol-python or its lattice extra is missing, or lengths differ.
    """
    require("ai-edge-litert", "ai_edge_litert", "visqol")
    return _visqol(_visqol_speech(lattice=True), reference, degraded, sample_rate)


def visqol_polynomial(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """The same similarity as :func:`visqol_lattice`, mapped by the older polynomial.

    Google's program does so with ``--use_lattice_model=false``, and papers from before the lattice
    did; the figures are other ones, so compare within a mapping. Arguments as in :func:`pesq_wb`.

    Raises:
        InputError: The package visqol-python is missing, or lengths differ.
    """
    return _visqol(_visqol_speech(lattice=False), reference, degraded, sample_rate)


def _visqol(api: Any, reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    if not usable(reference, degraded, SHORTEST * sample_rate):
        return float("nan")
    sides = _arrays(reference, degraded, sample_rate, 16_000)
    try:
        return float(api.measure_from_arrays(*sides, 16_000).moslqo)
    except (ValueError, IndexError):  # no patch with speech in it
        return float("nan")


def si_sdr(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), means removed.

    Identical signals give a large finite figure that float64 rounding sets. Arguments as in
    :func:`pesq_wb`.

    Raises:
        InputError: The lengths differ.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    usable(reference, degraded)  # complains about lengths
    # A constant is silence here: torchmetrics would call it 0 dB.
    first, second = (side.double() - side.double().mean() for side in (reference, degraded))
    if not usable(first, second):
        return float("nan")
    found = float(scale_invariant_signal_distortion_ratio(second, first))
    return found if math.isfinite(found) else float("nan")
