"""Random numbers that belong to a row: the same in any batch, on any number of ranks or devices."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kdlight.core.noise import mix

_BITS = 53
"""Bits of a uniform number: all that float64 tells apart in [0, 1)."""

Words = npt.NDArray[np.uint64]


def _scrambled(value: Words) -> Words:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), arithmetic modulo 2^64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class RowDraws:
    """Uniform numbers as a function of (seed, row, call, position).

    A generator that is drawn from in order gives a row other numbers in another batch. A sample of
    tokens ought to depend on its seed alone, so the numbers are hashed from counters: on the host,
    by numpy, whose two dozen operations on a few hundred numbers take a fraction of torch's time.

    Args:
        rows: Numbers of the rows, (B,) int64: which samples of the whole set these are.
        seed: Seed of the whole set.
    """

    def __init__(self, rows: Tensor, seed: int) -> None:
        self._device = rows.device
        keys = (rows.long() + mix(seed)).cpu().numpy().view(np.uint64)
        self._keys = _scrambled(keys)[:, None]
        self._calls = 0

    def uniform(self, width: int) -> Tensor:
        """Uniform in [0, 1), (B, width), float64; the next call gives others."""
        self._calls += 1
        places = np.arange(width, dtype=np.uint64) + np.uint64(mix(self._calls, width))
        bits = _scrambled(_scrambled(self._keys ^ places) + self._keys)
        uniform = (bits >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS
        return torch.from_numpy(uniform).to(self._device)
