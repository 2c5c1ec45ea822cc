"""Fundamental frequency of a degraded utterance against its reference."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from kdlight.metrics.speech.packages import require
from kdlight.metrics.speech.quality import SHORTEST, usable

PERIOD_MS = 5.0
# A correlation of fewer frames (50 ms) says nothing about an intonation.
FEWEST = 10


class PitchErrors(NamedTuple):
    """How two F0 tracks differ over the frames that both sides voice.

    Attributes:
        correlation: Pearson's correlation of F0 in Hz, -1 to 1; NaN if one side is constant.
        rmse: Root of the mean squared difference in Hz.
    """

    correlation: float
    rmse: float


def pitch_errors(reference: Tensor, degraded: Tensor, sample_rate: int) -> PitchErrors:
    """Compare F0 tracks: WORLD's DIO refined by StoneMask (pyworld), every 5 ms, 71 to 800 Hz.

    Args:
        reference: Original audio, (T,), in [-1, 1].
        degraded: What came out of a codec, (T,).
        sample_rate: In Hz.

    Returns:
        NaN where fewer than 10 frames are voiced in both, or a side is silent or not finite.

    Raises:
        InputError: The package pyworld is missing, or the lengths differ.
    """
    pyworld = require("pyworld", "pyworld", "f0")
    unknown = PitchErrors(float("nan"), float("nan"))
    if not usable(reference, degraded, SHORTEST * sample_rate):
        return unknown
    tracks = []
    for side in (reference, degraded):
        audio = side.detach().cpu().double().numpy()
        rough, times = pyworld.dio(audio, sample_rate, frame_period=PERIOD_MS)
        tracks.append(pyworld.stonemask(audio, rough, times, sample_rate))
    first, second = tracks
    voiced = (first > 0) & (second > 0)
    if voiced.sum() < FEWEST:
        return unknown
    first, second = first[voiced], second[voiced]
    constant = first.std() == 0 or second.std() == 0
    correlation = float("nan") if constant else float(np.corrcoef(first, second)[0, 1])
    return PitchErrors(correlation, float(np.sqrt(np.mean((first - second) ** 2))))


def f0_correlation(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """The correlation of :func:`pitch_errors`."""
    return pitch_errors(reference, degraded, sample_rate).correlation


def f0_rmse(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """The error in Hz of :func:`pitch_errors`."""
    return pitch_errors(reference, degraded, sample_rate).rmse
