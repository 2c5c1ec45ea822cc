"""Distances between spectra of a degraded utterance and its reference; zero is identity.

Each is a pure function ``(reference (T,), degraded (T,), sample_rate) -> float`` that returns NaN
where a side is not finite or shorter than a window. Silence is no obstacle: a spectrum of zeros is
clamped. The figures depend on ``sample_rate``: compare them at one rate only.
"""

import functools

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks
from torchaudio.transforms import MelSpectrogram

from kdlight.errors import InputError

CLAMP = 1e-5
MEL_SCALES = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))
STFT_WINDOWS = (2048, 512)


def _comparable(reference: Tensor, degraded: Tensor, window: int) -> bool:
    """Whether a spectrum with this window can be taken of both sides."""
    if reference.ndim != 1 or reference.shape != degraded.shape:
        raise InputError(
            f"spectral distances: expected two signals (T,) of one length, "
            f"found {tuple(reference.shape)} and {tuple(degraded.shape)}."
        )
    # Reflection at the borders takes more than half a window of signal.
    long_enough = len(reference) > window // 2
    return long_enough and all(bool(side.isfinite().all()) for side in (reference, degraded))


@functools.lru_cache(maxsize=4)
def _log_mel_80(sample_rate: int) -> MelSpectrogram:
    return MelSpectrogram(sample_rate, n_fft=1024, hop_length=256, n_mels=80, power=1.0)


def log_mel_l1(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Mean absolute difference of natural log-mel spectra at 80 bands.

    Definition: torchaudio's ``MelSpectrogram(sample_rate, n_fft=1024, hop_length=256, n_mels=80,
    power=1)`` (magnitudes, periodic Hann window of 1024, centred, HTK bands without area
    normalisation, 0 Hz to half the rate), clamped from below at 1e-5, natural logarithm, mean of
    |difference| over bands and frames.

    Args:
        reference: Original audio, (T,), in [-1, 1].
        degraded: What came out of a codec, (T,).
        sample_rate: In Hz.

    Returns:
        At least 0, in nepers; NaN for fewer than 513 samples.

    Raises:
        InputError: The lengths differ.
    """
    if not _comparable(reference, degraded, 1024):
        return float("nan")
    transform = _log_mel_80(sample_rate)
    first, second = (
        transform(side.detach().cpu().float()).clamp(min=CLAMP).log()
        for side in (reference, degraded)
    )
    return float((first - second).abs().mean())


def _magnitude(audio: Tensor, window: int) -> Tensor:
    """Magnitudes (window // 2 + 1, frames), periodic Hann window, hop of a quarter window."""
    spectrum = torch.stft(
        audio.detach().cpu().float(),
        n_fft=window,
        hop_length=window // 4,
        window=torch.hann_window(window),
        return_complex=True,
    )
    return spectrum.abs()


@functools.lru_cache(maxsize=32)
def _filters(window: int, n_mels: int, sample_rate: int) -> Tensor:
    """Mel filters (n_mels, window // 2 + 1), Slaney's scale and area normalisation."""
    top, bins = sample_rate / 2, window // 2 + 1
    filters: Tensor = melscale_fbanks(bins, 0.0, top, n_mels, sample_rate, "slaney", "slaney")
    return filters.T


def mel_distance(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Multi-scale mel distance of DAC (Kumar et al. 2023, arXiv:2306.06546).

    The sum over windows of 32, 64, ..., 2048 samples with 5, 10, ..., 320 bands of the mean
    absolute difference of ``log10(max(mel, 1e-5))``; mel are Slaney's bands of magnitudes, hops a
    quarter window. Some of the 320 bands hold no bin at low rates; they add zero on both sides.
    Arguments, range and errors as in :func:`log_mel_l1`.
    """
    if not _comparable(reference, degraded, MEL_SCALES[-1][0]):
        return float("nan")
    total = 0.0
    for window, n_mels in MEL_SCALES:
        filters = _filters(window, n_mels, sample_rate)
        first, second = (
            (filters @ _magnitude(side, window)).clamp(min=CLAMP).log10()
            for side in (reference, degraded)
        )
        total += float((first - second).abs().mean())
    return total


def stft_distance(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Multi-scale distance of log magnitudes (as DAC reports, arXiv:2306.06546).

    The sum over windows of 2048 and 512 samples of the mean absolute difference of
    ``log10(max(|S|, 1e-5)^2)``. DAC's training loss adds a linear term; this figure does not.
    Arguments, range and errors as in :func:`log_mel_l1`.
    """
    if not _comparable(reference, degraded, max(STFT_WINDOWS)):
        return float("nan")
    total = 0.0
    for window in STFT_WINDOWS:
        first, second = (
            2 * _magnitude(side, window).clamp(min=CLAMP).log10() for side in (reference, degraded)
        )
        total += float((first - second).abs().mean())
    return total
