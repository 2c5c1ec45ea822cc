"""Means of a test set with their percentile bootstrap intervals (Efron and Tibshirani 1993)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure of a set of utterances and where it would lie for others like them.

    Attributes:
        value: The figure of the set itself.
        low: 2.5th percentile over resampled sets.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float


def bootstrap(
    columns: Sequence[Sequence[float]],
    figure: Callable[[Array], Array],
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A figure of summed columns, with the 95 % interval over resampled utterances.

    Args:
        columns: K columns of N numbers, one for each utterance: all finite.
        figure: Maps sums (K, R) to figures (R,), such as one sum over another.
        resamples: How many sets are drawn, with replacement.
        seed: The same seed and data give the same interval.

    Returns:
        NaN thrice without an utterance.
    """
    values = np.asarray(columns, dtype=np.float64)
    count = values.shape[1]
    if count == 0:
        return Interval(math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    sums = [values[:, generator.integers(count, size=count)].sum(axis=1) for _ in range(resamples)]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = figure(np.stack(sums, axis=1))
        value = figure(values.sum(axis=1, keepdims=True))[0]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def mean_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of some finite values and its interval; see :func:`bootstrap`."""
    ones = [1.0] * len(values)
    return bootstrap([values, ones], lambda sums: sums[0] / sums[1], resamples, seed)
