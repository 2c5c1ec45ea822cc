"""Random numbers that belong to a row: the same in any batch, on any number of ranks or devices."""

import torch
from torch import Tensor

from kdlight.core.noise import mix

_BITS = 53
"""Bits of a uniform number: all that float64 tells apart in [0, 1)."""


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Logical shift to the right of int64."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _scrambled(value: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), int64 arithmetic that wraps."""
    value = (value ^ _shifted(value, 30)) * -0x40A7B892E31B1A47
    value = (value ^ _shifted(value, 27)) * -0x6B2FB644ECCEEE15
    return value ^ _shifted(value, 31)


class RowDraws:
    """Uniform numbers as a function of (seed, row, call, position).

    A generator that is drawn from in order gives a row other numbers in another batch. A sample of
    tokens ought to depend on its seed alone, so the numbers are hashed from counters.

    Args:
        rows: Numbers of the rows, (B,) int64: which samples of the whole set these are.
        seed: Seed of the whole set.
    """

    def __init__(self, rows: Tensor, seed: int) -> None:
        self._keys = _scrambled(rows.long() + mix(seed))
        self._calls = 0

    def uniform(self, width: int) -> Tensor:
        """Uniform in [0, 1), (B, width), float64; the next call gives others."""
        self._calls += 1
        places = torch.arange(width, device=self._keys.device) + mix(self._calls, width)
        bits = _scrambled(_scrambled(self._keys[:, None] ^ places) + self._keys[:, None])
        uniform: Tensor = _shifted(bits, 64 - _BITS).double() / 2**_BITS
        return uniform
