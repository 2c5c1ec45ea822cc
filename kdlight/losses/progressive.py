"""The target of progressive distillation."""

from typing import Literal

import torch
from torch import Tensor

from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.diffusion.samplers import euler_step, heun_correction

Solver = Literal["euler", "heun"]


def teacher_walk(
    teacher: Denoiser,
    x: Tensor,
    levels: Tensor,
    condition: Condition | None = None,
    solver: Solver = "euler",
) -> Tensor:
    """Walk the teacher along a different stretch of the grid for every sample.

    Args:
        teacher: The denoiser that walks.
        x: State at ``levels[:, 0]``, (B, ...).
        levels: Falling noise levels of each sample, (B, k + 1); a level that repeats the last
            one is a step that moves nothing, so stretches of unequal length share a batch.
        condition: What the samples are conditioned on.
        solver: Euler (DDIM) or Heun; a Heun step to 0 or to itself is an Euler step.

    Returns:
        State at ``levels[:, -1]``.
    """
    for sigma, sigma_next in zip(levels.T[:-1], levels.T[1:], strict=True):
        # A sample that has arrived at 0 stays there: the ODE ends at 0, a denoiser need not.
        arrived = sigma == 0
        here = torch.where(arrived, torch.ones_like(sigma), sigma)
        ahead = torch.where(arrived, here, sigma_next)
        x0 = teacher(x, here, condition)
        x_next = euler_step(x, x0, here, ahead)
        if solver == "heun":
            last = ahead == 0
            safe = torch.where(last, here, ahead)
            x0_next = teacher(torch.where(_rows(last, x), x, x_next), safe, condition)
            corrected = heun_correction(x, x0, x0_next, x_next, here, safe)
            x_next = torch.where(_rows(last, x), x_next, corrected)
        x = torch.where(_rows(arrived, x), x, x_next)
    return x


def _rows(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (x.ndim - 1))


def implied_x0(x: Tensor, x_end: Tensor, sigma: Tensor, sigma_end: Tensor) -> Tensor:
    """The estimate of x0 with which one Euler step from ``x`` lands exactly on ``x_end``.

    ``(x_end - r x) / (1 - r)`` with ``r = sigma_end / sigma``: the x-space target of Salimans &
    Ho 2022 (arXiv:2202.00512), algorithm 2, in variance-exploding coordinates. At
    ``sigma_end = 0`` it is ``x_end`` bit for bit.

    Args:
        x: State at ``sigma``, (B, ...).
        x_end: State at ``sigma_end``, (B, ...).
        sigma: (B,), above ``sigma_end``.
        sigma_end: (B,), at least 0.
    """
    ratio = expand(sigma_end, x) / expand(sigma, x)
    # In float64: the difference of two near states is divided by a small number.
    target = (x_end.double() - ratio * x.double()) / (1 - ratio)
    return target.to(x.dtype)
