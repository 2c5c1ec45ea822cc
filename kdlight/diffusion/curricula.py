"""How finely a consistency method divides the noise, over the run, and which pair it draws.

A curriculum gives N, the number of noise levels, of which N - 1 neighbouring pairs are trained;
an index law draws the pair; a target decay says how fast a moving-average target follows.
"""

import math

import torch
from torch import Tensor

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


def _check_levels(name: str, count: int) -> None:
    if count < 2:
        raise InputError(f"{name}: expected at least 2 noise levels to pair, found {count}.")


class Curriculum(Recorded):
    """Base of the curricula."""

    def levels(self, iteration: int, iterations: int) -> int:
        """Number N of noise levels at ``iteration`` (from 0) of a run of ``iterations``."""
        raise NotImplementedError


class ConstantCurriculum(Curriculum):
    """The same number of levels throughout, as consistency distillation has.

    Args:
        count: Number of levels N, at least 2.
    """

    def __init__(self, count: PositiveInt = 18) -> None:
        _check_levels("count", count)
        self.count = count

    def levels(self, iteration: int, iterations: int) -> int:
        return self.count


class SquareRootCurriculum(Curriculum):
    """``N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1`` (arXiv:2303.01469, app. C).

    Args:
        s0: Levels at the start, at least 2.
        s1: Intervals at the end, at least ``s0``.
    """

    def __init__(self, s0: int = 2, s1: int = 150) -> None:
        _check_levels("s0", s0)
        if s1 < s0:
            raise InputError(f"s1: expected at least s0 ({s0}), found {s1}.")
        self.s0, self.s1 = s0, s1

    def levels(self, iteration: int, iterations: int) -> int:
        square = iteration / iterations * ((self.s1 + 1) ** 2 - self.s0**2) + self.s0**2
        return math.ceil(math.sqrt(square) - 1) + 1


class DoublingCurriculum(Curriculum):
    """``N(k) = min(s0 2^floor(k / K'), s1) + 1`` (arXiv:2310.14189, section 3.4).

    ``K' = floor(K / (log2 floor(s1 / s0) + 1))``: every number of levels lasts equally long, the
    last a little longer.

    Args:
        s0: Intervals at the start, at least 1.
        s1: Intervals at the end, at least ``s0``.
    """

    def __init__(self, s0: int = 10, s1: int = 1280) -> None:
        _check_levels("s0", s0 + 1)
        if s1 < s0:
            raise InputError(f"s1: expected at least s0 ({s0}), found {s1}.")
        self.s0, self.s1 = s0, s1

    def levels(self, iteration: int, iterations: int) -> int:
        length = max(1, math.floor(iterations / (math.log2(self.s1 // self.s0) + 1)))
        # The exponent is bounded before the power: far behind the end it would be astronomical.
        doublings = min(iteration // length, 64)
        return min(self.s0 << doublings, self.s1) + 1


class IndexLaw(Recorded):
    """Base of the laws by which a pair of neighbouring levels is drawn."""

    def probabilities(self, levels: Tensor) -> Tensor:
        """Probability of each pair (i, i + 1) of rising ``levels`` (N,), as (N - 1,), float64."""
        raise NotImplementedError

    def __call__(self, levels: Tensor, uniform: Tensor) -> Tensor:
        """Indices (B,) of the lower levels, for numbers (B,) uniform in [0, 1)."""
        cumulative = self.probabilities(levels).cumsum(0).to(uniform.device)
        # The last bound is one, whatever the rounding of the sum.
        return torch.searchsorted(cumulative[:-1].contiguous(), uniform.contiguous(), right=True)


class UniformIndex(IndexLaw):
    """Every pair alike (arXiv:2303.01469, algorithms 2 and 3)."""

    def probabilities(self, levels: Tensor) -> Tensor:
        return torch.full((len(levels) - 1,), 1 / (len(levels) - 1), dtype=torch.float64)


class LogNormalIndex(IndexLaw):
    """A normal law of log sigma, discretised onto the levels (arXiv:2310.14189, eq. 10).

    ``p(i) ~ erf((log s[i+1] - mean) / (sqrt(2) std)) - erf((log s[i] - mean) / (sqrt(2) std))``.

    Args:
        mean: Mean of log sigma.
        std: Standard deviation of log sigma.
    """

    def __init__(self, mean: float = -1.1, std: PositiveFloat = 2.0) -> None:
        if not std > 0:
            raise InputError(f"std: expected a number above 0, found {std}.")
        self.mean, self.std = mean, std

    def probabilities(self, levels: Tensor) -> Tensor:
        bounds = torch.erf((levels.double().log() - self.mean) / (math.sqrt(2) * self.std))
        mass = bounds.diff()
        return mass / mass.sum()


class TargetDecay(Recorded):
    """Base of the laws of the decay mu of a moving-average target."""

    def decay(self, levels: int) -> float:
        """Decay of the update that follows an iteration with ``levels`` noise levels."""
        raise NotImplementedError


class ConstantDecay(TargetDecay):
    """The same decay throughout; 0 is the student itself without gradient.

    Args:
        mu: Decay in [0, 1).
    """

    def __init__(self, mu: float = 0.95) -> None:
        if not 0 <= mu < 1:
            raise InputError(f"mu: expected a number in [0, 1), found {mu}.")
        self.mu = mu

    def decay(self, levels: int) -> float:
        return self.mu


class AdaptiveDecay(TargetDecay):
    """``mu(k) = exp(s0 log mu0 / N(k))`` (arXiv:2303.01469, appendix C).

    The released code divides by N(k) - 1 instead, the number of intervals.

    Args:
        s0: Levels at the start of the curriculum.
        mu0: Decay at the start, in (0, 1).
    """

    def __init__(self, s0: int = 2, mu0: float = 0.9) -> None:
        if not 0 < mu0 < 1:
            raise InputError(f"mu0: expected a number in (0, 1), found {mu0}.")
        self.s0, self.mu0 = s0, mu0

    def decay(self, levels: int) -> float:
        return math.exp(self.s0 * math.log(self.mu0) / levels)
