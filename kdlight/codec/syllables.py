"""Syllables out of frames: cuts where features change, and what each piece means on average.

Sylber (Cho et al. 2025, arXiv:2410.07168), sections 3.2 and 3.3. All functions work on one
recording's frames, of any features and rate; a segment is (first frame, frame behind its last).
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError

Item = TypeVar("Item")
Segments = list[tuple[int, int]]


def greedy_segments(features: Tensor, speech: Tensor, threshold: float) -> Segments:
    """Grow a segment for as long as the next frame points where its mean does; linear in F.

    A frame of speech joins if its cosine with the mean of the segment so far is at least
    ``threshold``. The count starts anew with every segment: the released program goes on counting,
    which glues the mean of all later segments to their first frame.

    Args:
        features: (F, D).
        speech: Frames of speech, (F,) bool; the others are in no segment and end one.
        threshold: In [-1, 1].
    """
    frames = features.detach().double().cpu().numpy()
    norms = np.linalg.norm(frames, axis=1)
    found: Segments = []
    start, total = -1, np.zeros(frames.shape[1])
    for index, heard in enumerate(speech.tolist()):
        if start >= 0 and not heard:
            found.append((start, index))
            start = -1
        elif heard and start < 0:
            start, total = index, frames[index]
        elif heard:
            # The mean's length does not matter, so the sum will do.
            scale = np.linalg.norm(total) * norms[index]
            if total @ frames[index] >= threshold * scale:
                total = total + frames[index]
            else:
                found.append((start, index))
                start, total = index, frames[index]
    if start >= 0:
        found.append((start, len(frames)))
    return found


def refine_segments(
    features: Tensor, segments: Sequence[tuple[int, int]], threshold: float
) -> Segments:
    """Merge neighbours that mean the same, and move every boundary to where it divides best.

    In turn from the left: two segments that touch are merged if their means' cosine is at least
    ``threshold``; else their boundary goes, within half of each, to where the frames before it are
    most like the left mean and those behind it most like the right one. No segment gets empty.

    Args:
        features: (F, D).
        segments: In order, without overlap.
        threshold: In [-1, 1].
    """
    frames = features.detach().double().cpu().numpy()
    unit = frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-12)

    def mean(start: int, stop: int) -> np.ndarray:
        direction: np.ndarray = frames[start:stop].mean(axis=0)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
        return direction

    found: Segments = []
    for segment in segments:
        if not found or found[-1][1] != segment[0]:
            found.append(segment)
            continue
        (first, middle), (_, last) = found[-1], segment
        left, right = mean(first, middle), mean(middle, last)
        if left @ right >= threshold:
            found[-1] = (first, last)
            continue
        low = max(first + 1, middle - (middle - first) // 2)
        high = min(last - 1, middle + (last - middle) // 2)
        if low <= high:
            gain = np.cumsum(unit[low:high] @ (left - right))
            scores = np.concatenate([[0.0], gain])
            # Of equally good places the old one, then the first.
            best = int(scores.argmax())
            if scores[middle - low] < scores[best]:
                middle = low + best
        found[-1] = (first, middle)
        found.append((middle, last))
    return found


def segment_means(features: Tensor, segments: Sequence[tuple[int, int]]) -> Tensor:
    """Every frame's segment on average, (F, D); zero outside all segments (eq. 1)."""
    means = torch.zeros_like(features)
    for start, stop in segments:
        means[start:stop] = features[start:stop].mean(dim=0)
    return means


def norm_threshold(
    speech_mean: float, speech_variance: float, silence_mean: float, silence_variance: float
) -> float:
    """The norm at which a frame is as likely speech as silence, both normal.

    Raises:
        InputError: The mean of speech is not above that of silence, or a variance not above 0.
    """
    if not speech_mean > silence_mean or min(speech_variance, silence_variance) <= 0:
        raise InputError(
            "norms: expected speech above silence and variances above 0, found means "
            f"{speech_mean} and {silence_mean}, variances {speech_variance} and {silence_variance}."
        )
    a = speech_variance - silence_variance
    b = 2 * (silence_variance * speech_mean - speech_variance * silence_mean)
    c = (
        speech_variance * silence_mean**2
        - silence_variance * speech_mean**2
        - speech_variance * silence_variance * math.log(speech_variance / silence_variance)
    )
    if abs(a) < 1e-12 * speech_variance:
        return -c / b
    return (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)


def count_nuclei(audio: Tensor, sample_rate: int, dip: float = 2.0, silence: float = 25.0) -> int:
    """Syllables of a recording as its peaks of intensity: no text, no training, no labels.

    A peak counts if the intensity falls by ``dip`` decibels on both sides of it and it is no more
    than ``silence`` decibels below the loudest (de Jong & Wempe 2009, doi:10.3758/BRM.41.2.385,
    whose numbers these are; they ask besides that it is voiced).

    Args:
        audio: (1, T).
        sample_rate: Samples per second.
        dip: Decibels.
        silence: Decibels.
    """
    hop = sample_rate // 100
    frames = audio[0, : audio.shape[-1] // hop * hop].double().view(-1, hop).square().mean(dim=1)
    if not len(frames):
        return 0
    window = torch.hann_window(9, periodic=False, dtype=torch.float64)
    window = (window / window.sum())[None, None]
    smooth = torch.nn.functional.conv1d(frames[None, None], window, padding=4)[0, 0]
    level = 10 * smooth.clamp(min=1e-10).log10()
    least = float(level.quantile(0.99)) - silence
    count, low, peak = 0, float(level[0]), -math.inf
    for value in [*level.tolist(), -math.inf]:
        if peak == -math.inf:
            low = min(low, value)
            peak = value if value - low >= dip else peak
        elif peak - value >= dip:
            count += peak >= least
            low, peak = value, -math.inf
        else:
            peak = max(peak, value)
    return count


def threshold_for_count(recordings: Sequence[tuple[Tensor, Tensor]], count: float) -> float:
    """The threshold of :func:`greedy_segments` that gives ``count`` segments in all.

    It needs no labels, so arms of an experiment can be cut equally often.

    Args:
        recordings: Features (F, D) and frames of speech (F,) of some recordings.
        count: Segments in all recordings together.

    Raises:
        InputError: There are not as many frames of speech.
    """
    frames = sum(int(speech.sum()) for _, speech in recordings)
    if not 0 < count < frames:
        raise InputError(
            f"syllables: expected to find more than 0 and fewer than {frames} segments, as the "
            f"recordings have frames of speech, found a wish for {count:g}."
        )
    low, high = -1.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        found = sum(len(greedy_segments(*each, middle)) for each in recordings)
        low, high = (middle, high) if found < count else (low, middle)
    return high


def normalised_threshold(
    recordings: Sequence[tuple[Tensor, Tensor]], count: float
) -> tuple[Tensor, Tensor, float]:
    """Mean and scale of features over all frames of speech, and the threshold of what is left.

    Args:
        recordings: As :func:`threshold_for_count`.
        count: Segments in all recordings together.

    Returns:
        Mean (D,), standard deviation (D,), and the threshold that gives ``count`` segments of
        features of mean 0 and deviation 1.

    Raises:
        InputError: There are not as many frames of speech.
    """
    frames = torch.cat([features[speech] for features, speech in recordings])
    mean, scale = frames.mean(dim=0), frames.std(dim=0).clamp(min=1e-5)
    normal = [((features - mean) / scale, speech) for features, speech in recordings]
    return mean, scale, threshold_for_count(normal, count)


def evenly(items: Sequence[Item], count: int) -> Sequence[Item]:
    """At most ``count`` of the items, as far apart as they can be."""
    return items[:: max(1, len(items) // count)][:count]
