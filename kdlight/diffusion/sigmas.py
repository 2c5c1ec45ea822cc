"""Grids of noise levels to step along, and laws to draw training noise levels from.

Everything is float64. A grid of n steps has n + 1 levels, falls, and ends at exactly 0.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import gamma, stdtr
from torch import Tensor

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.diffusion.schedules import (
    Schedule,
    alphas_cumprod_of,
    sigma_from_alpha_bar,
    sigma_from_flow_time,
)
from kdlight.errors import InputError


class Grid(Recorded):
    """Base of everything that lays a grid of noise levels."""

    def sigmas(self, steps: int) -> Tensor:
        """Levels of a walk of ``steps`` steps, (steps + 1,), falling to exactly 0."""
        raise NotImplementedError


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max:
        raise InputError(
            f"sigma_min: expected 0 < sigma_min < sigma_max, "
            f"found sigma_min {sigma_min} and sigma_max {sigma_max}."
        )


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise InputError(f"steps: expected at least 1, found {steps}.")


class KarrasGrid(Grid):
    """The grid of EDM (arXiv:2206.00364, eq. 5), with the final 0 appended.

    Args:
        sigma_min: Last level before 0.
        sigma_max: First level.
        rho: Curvature; 7 in the paper, larger puts more levels near ``sigma_min``.
    """

    def __init__(
        self,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
        rho: PositiveFloat = 7.0,
    ) -> None:
        _check_range(sigma_min, sigma_max)
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def sigmas(self, steps: int) -> Tensor:
        _check_steps(steps)
        ramp = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        levels = (high + ramp * (low - high)) ** self.rho
        # The ends are given, not computed: a power of a root is off by an ulp.
        levels[-1] = self.sigma_min
        levels[0] = self.sigma_max
        return torch.cat([levels, levels.new_zeros(1)])


class CosineGrid(Grid):
    """``sigma = tan(pi/2 * i/n)``, the grid of progressive distillation (arXiv:2202.00512).

    Grids of n and n/2 steps share their levels. The first level, infinite in the paper's
    continuous form, is ``sigma_max``.
    """

    def __init__(self, sigma_max: PositiveFloat = 80.0) -> None:
        if not sigma_max > 0:
            raise InputError(f"sigma_max: expected a number above 0, found {sigma_max}.")
        self.sigma_max = sigma_max

    def sigmas(self, steps: int) -> Tensor:
        _check_steps(steps)
        time = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
        levels = torch.tan(time * math.pi / 2).clamp(max=self.sigma_max)
        levels[0], levels[-1] = self.sigma_max, 0.0
        if steps > 1 and levels[1] >= levels[0]:
            raise InputError(
                f"steps: expected fewer of a cosine grid, whose second level of {steps} steps, "
                f"{math.tan((1 - 1 / steps) * math.pi / 2):.3g}, is above its sigma_max "
                f"{self.sigma_max:g}."
            )
        return levels


class TrailingGrid(Grid):
    """The noise levels of diffusers' ``timestep_spacing="trailing"`` on a VP schedule.

    Starts at the last timestep, so one step starts from (almost) pure noise. Grids nest whenever
    the step counts divide the number of timesteps.
    """

    def __init__(self, schedule: Schedule | Sequence[float] = "linear") -> None:
        self._table = sigma_from_alpha_bar(alphas_cumprod_of(schedule))

    def sigmas(self, steps: int) -> Tensor:
        _check_steps(steps)
        count = len(self._table)
        if steps > count:
            raise InputError(f"steps: expected at most {count} timesteps, found {steps}.")
        timesteps = torch.arange(count, 0, -count / steps, dtype=torch.float64).round().long() - 1
        return torch.cat([self._table[timesteps[:steps]], self._table.new_zeros(1)])


class RoundedGrid(Grid):
    """Another grid's levels, each moved to the nearest one of a VP schedule.

    Args:
        base: The grid whose levels are moved.
        schedule: Name of a schedule of 1,000 steps, or alpha_bar of every timestep.
    """

    def __init__(self, base: Grid, schedule: Schedule | Sequence[float] = "linear") -> None:
        self.base = base
        self._table = sigma_from_alpha_bar(alphas_cumprod_of(schedule))

    def sigmas(self, steps: int) -> Tensor:
        levels = self.base.sigmas(steps)[:-1]
        nearest = self._table[(levels[:, None] - self._table).abs().argmin(dim=1)]
        if (nearest.diff() >= 0).any():
            raise InputError(f"steps: {steps} steps are more than the schedule has levels for.")
        return torch.cat([nearest, nearest.new_zeros(1)])


class FlowGrid(Grid):
    """Times of a straight path, uniform before a shift, as noise levels ``t / (1 - t)``.

    The shift is that of Esser et al. 2024 (arXiv:2403.03206, eq. 23),
    ``t -> shift t / (1 + (shift - 1) t)``.

    Args:
        shift: Above 1 it puts more steps at large noise.
        last: Last time before 0, unshifted; None takes one over the number of steps.
        sigma_max: Level that stands for the infinite one of time 1.
    """

    def __init__(
        self,
        shift: PositiveFloat = 1.0,
        last: float | None = None,
        sigma_max: PositiveFloat = 2.0**16,
    ) -> None:
        self.shift, self.last, self.sigma_max = shift, last, sigma_max

    def sigmas(self, steps: int) -> Tensor:
        _check_steps(steps)
        last = 1 / steps if self.last is None else self.last
        time = torch.linspace(1, last, steps, dtype=torch.float64)
        time = self.shift * time / (1 + (self.shift - 1) * time)
        return torch.cat([sigma_from_flow_time(time).clamp(max=self.sigma_max), time.new_zeros(1)])


class NestedGrid(Grid):
    """Every grid is a subset of one base grid: what a round of distillation needs.

    Args:
        base: The grid that is thinned.
        base_steps: Steps of the base grid; other step counts come from halving it.
    """

    def __init__(self, base: Grid, base_steps: PositiveInt) -> None:
        self.base, self.base_steps = base, base_steps

    def sigmas(self, steps: int) -> Tensor:
        levels = self.base.sigmas(self.base_steps)
        while len(levels) - 1 > steps:
            levels = halve(levels)
        if len(levels) - 1 != steps:
            raise InputError(f"steps: halving {self.base_steps} steps never gives {steps} steps.")
        return levels


class FixedGrid(Grid):
    """Levels written down one by one.

    Args:
        levels: Falling noise levels; a final 0 is appended if missing.
    """

    def __init__(self, levels: list[float]) -> None:
        values = [float(level) for level in levels]
        if values and values[-1] != 0.0:
            values.append(0.0)
        if len(values) < 2 or any(a <= b for a, b in itertools.pairwise(values)):
            raise InputError(f"levels: expected falling noise levels above 0, found {levels}.")
        self._levels = torch.tensor(values, dtype=torch.float64)

    def sigmas(self, steps: int) -> Tensor:
        if steps != len(self._levels) - 1:
            raise InputError(
                f"steps: this model samples in {len(self._levels) - 1} steps, found {steps}."
            )
        return self._levels


class PrefixGrid(Grid):
    """A walk of n steps takes the first n of a list of levels, as few-step generators do.

    Args:
        levels: Falling noise levels above 0, the first for one step, two for two, and so on.
    """

    def __init__(self, levels: list[float]) -> None:
        values = [float(level) for level in levels]
        if not values or any(a <= b for a, b in itertools.pairwise([*values, 0.0])):
            raise InputError(f"levels: expected falling noise levels above 0, found {levels}.")
        self._levels = torch.tensor(values, dtype=torch.float64)

    @property
    def longest(self) -> int:
        """Steps of the longest walk."""
        return len(self._levels)

    def sigmas(self, steps: int) -> Tensor:
        _check_steps(steps)
        if steps > len(self._levels):
            raise InputError(
                f"steps: expected at most {len(self._levels)}, one for each level, found {steps}."
            )
        return torch.cat([self._levels[:steps], self._levels.new_zeros(1)])


def halve(sigmas: Tensor) -> Tensor:
    """Every second level of a grid, the last kept: n steps become ceil(n / 2)."""
    return torch.cat([sigmas[:-1][::2], sigmas[-1:]])


class NoiseLaw(Recorded):
    """Base of the laws of training noise levels, each given by its quantile function."""

    def __call__(self, uniform: Tensor) -> Tensor:
        """Noise levels (B,), float64, for numbers (B,) uniform in [0, 1)."""
        raise NotImplementedError


class LogNormalNoise(NoiseLaw):
    """``log sigma ~ N(mean, std^2)`` (EDM, arXiv:2206.00364, table 1)."""

    def __init__(self, mean: float = -1.2, std: PositiveFloat = 1.2) -> None:
        self.mean, self.std = mean, std

    def __call__(self, uniform: Tensor) -> Tensor:
        u = uniform.double().clamp(1e-12, 1 - 1e-12)
        normal: Tensor = torch.special.ndtri(u)
        return (self.mean + self.std * normal).exp()


class LogStudentNoise(NoiseLaw):
    """``log sigma = mean + std t`` with Student's t law, cut off to a range (arXiv:2410.14895).

    With few degrees of freedom its tails are so heavy that noise near ``sigma_max`` is as usual as
    noise near ``exp(mean)``.

    Args:
        sigma_min: Smallest level drawn.
        sigma_max: Largest level drawn.
        mean: Centre of log sigma.
        std: Scale of log sigma.
        freedom: Degrees of freedom.
    """

    def __init__(
        self,
        sigma_min: NonNegativeFloat = 1.0,
        sigma_max: PositiveFloat = 80.0,
        mean: float = 0.0,
        std: PositiveFloat = 0.2,
        freedom: PositiveFloat = 0.01,
    ) -> None:
        _check_range(sigma_min, sigma_max)
        if not (std > 0 and freedom > 0):
            raise InputError(
                f"std: expected std > 0 and freedom > 0, found std {std} and freedom {freedom}."
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.mean, self.std, self.freedom = mean, std, freedom

        self._table = self._quantiles()

    def _quantiles(self, nodes: int = 16_385) -> Tensor:
        """The distribution function, t, and its slope at nodes even in t; (3, nodes), float64."""
        low, high = (np.log([self.sigma_min, self.sigma_max]) - self.mean) / self.std
        t = np.linspace(low, high, nodes)
        density = gamma((self.freedom + 1) / 2) / gamma(self.freedom / 2)
        density /= np.sqrt(self.freedom * np.pi)
        density = density * (1 + t**2 / self.freedom) ** (-(self.freedom + 1) / 2)
        return torch.from_numpy(np.stack([stdtr(self.freedom, t), t, 1 / density]))

    def __call__(self, uniform: Tensor) -> Tensor:
        # The quantile by Hermite's cubic between the nodes of a table: it has no closed form, and
        # scipy's would fetch every batch's numbers from the device.
        if self._table.device != uniform.device:
            self._table = self._table.to(uniform.device)
        u, t, slope = self._table
        share = u[0] + (u[-1] - u[0]) * uniform.double()
        right = torch.searchsorted(u, share).clamp(1, len(u) - 1)
        left, width = right - 1, u[right] - u[right - 1]
        s = (share - u[left]) / width
        ends = (1 + 2 * s) * (1 - s) ** 2 * t[left] + s**2 * (3 - 2 * s) * t[right]
        bent = s * (1 - s) * width * ((1 - s) * slope[left] - s * slope[right])
        levels: Tensor = (self.mean + self.std * (ends + bent)).exp()
        return levels.clamp(self.sigma_min, self.sigma_max)


class LogUniformNoise(NoiseLaw):
    """``log sigma`` uniform between two levels."""

    def __init__(
        self, sigma_min: NonNegativeFloat = 0.002, sigma_max: PositiveFloat = 80.0
    ) -> None:
        _check_range(sigma_min, sigma_max)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def __call__(self, uniform: Tensor) -> Tensor:
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return (low + (high - low) * uniform.double()).exp()


class KarrasNoise(NoiseLaw):
    """Uniform along the Karras grid (EDM, arXiv:2206.00364, eq. 5), or along a part of it.

    ``sigma = (low^(1/rho) + t (high^(1/rho) - low^(1/rho)))^rho`` with t uniform in
    [``start``, ``stop``), from ``sigma_min`` at t = 0 to ``sigma_max`` at t = 1. DMD and DMD2 leave
    the ends out, 0.02 to 0.98 (arXiv:2311.18828, section 3.2); SiD takes 0 to 0.8
    (arXiv:2404.04057, table 6).

    Args:
        sigma_min: Level at t = 0.
        sigma_max: Level at t = 1.
        rho: Curvature.
        start: Smallest t.
        stop: Largest t.
    """

    def __init__(
        self,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
        rho: PositiveFloat = 7.0,
        start: float = 0.0,
        stop: float = 1.0,
    ) -> None:
        _check_range(sigma_min, sigma_max)
        if not 0 <= start < stop <= 1:
            raise InputError(
                f"start: expected 0 <= start < stop <= 1, found start {start} and stop {stop}."
            )
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.start, self.stop = start, stop

    def __call__(self, uniform: Tensor) -> Tensor:
        time = self.start + (self.stop - self.start) * uniform.double()
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        levels: Tensor = (low + time * (high - low)) ** self.rho
        return levels


class TimestepNoise(NoiseLaw):
    """A timestep of a VP schedule drawn uniformly (DDPM, arXiv:2006.11239, algorithm 1)."""

    def __init__(self, schedule: Schedule | Sequence[float] = "linear") -> None:
        self._table = sigma_from_alpha_bar(alphas_cumprod_of(schedule))

    def __call__(self, uniform: Tensor) -> Tensor:
        table = self._table.to(uniform.device)
        index = (uniform.double() * len(table)).long().clamp(max=len(table) - 1)
        return table[index]


class FlowNoise(NoiseLaw):
    """Flow time ``t = sigmoid(mean + std * n)`` or, with ``std`` None, uniform in (0, 1).

    The logit-normal law is that of Esser et al. 2024, arXiv:2403.03206, section 3.1.
    """

    def __init__(self, mean: float = 0.0, std: PositiveFloat | None = 1.0) -> None:
        self.mean, self.std = mean, std

    def __call__(self, uniform: Tensor) -> Tensor:
        u = uniform.double().clamp(1e-6, 1 - 1e-6)
        if self.std is None:
            return sigma_from_flow_time(u)
        normal: Tensor = torch.special.ndtri(u)
        return (self.mean + self.std * normal).exp()
