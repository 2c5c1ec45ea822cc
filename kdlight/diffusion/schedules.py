"""Variance-preserving schedules and the way between alpha_bar and sigma."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kdlight.errors import InputError

Schedule = Literal["linear", "scaled_linear", "cosine"]


def alphas_cumprod_of(schedule: Schedule | Sequence[float], steps: int = 1000) -> Tensor:
    """alpha_bar of every timestep, (steps,), float64, falling.

    Args:
        schedule: ``linear`` (betas 1e-4 to 0.02; Ho et al. 2020, arXiv:2006.11239),
            ``scaled_linear`` (square roots of betas linear, 0.00085 to 0.012; latent diffusion),
            ``cosine`` (Nichol & Dhariwal 2021, arXiv:2102.09672, betas capped at 0.999), or the
            values themselves.
        steps: Number of timesteps of a named schedule.

    Raises:
        InputError: The values are not falling within (0, 1).
    """
    if not isinstance(schedule, str):
        values = torch.tensor(list(schedule), dtype=torch.float64)
        falling = len(values) > 1 and bool((values.diff() < 0).all())
        if not falling or values[0] >= 1 or values[-1] <= 0:
            raise InputError(
                "schedule: expected at least two falling values of alpha_bar between 0 and 1; "
                "a schedule that ends at exactly zero has no finite noise level."
            )
        return values
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    elif schedule == "scaled_linear":
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64) ** 2
    elif schedule == "cosine":
        time = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    else:
        raise InputError(
            f"schedule: expected linear, scaled_linear, cosine or a list, found {schedule!r}."
        )
    return (1 - betas).cumprod(0)


def sigma_from_alpha_bar(alpha_bar: Tensor) -> Tensor:
    """``sigma = sqrt((1 - abar) / abar)``: the noise level of ``z / sqrt(abar)``."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def alpha_bar_from_sigma(sigma: Tensor) -> Tensor:
    """``abar = 1 / (1 + sigma^2)``, the inverse of :func:`sigma_from_alpha_bar`."""
    return 1 / (1 + sigma**2)


def flow_time_from_sigma(sigma: Tensor) -> Tensor:
    """``t = sigma / (1 + sigma)`` of the straight path ``(1 - t) x0 + t eps``."""
    return sigma / (1 + sigma)


def sigma_from_flow_time(time: Tensor) -> Tensor:
    """``sigma = t / (1 - t)``, the inverse of :func:`flow_time_from_sigma`."""
    return time / (1 - time)
