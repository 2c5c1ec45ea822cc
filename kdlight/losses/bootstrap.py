"""The targets of BOOT (Gu et al. 2023, arXiv:2306.05544): steps of a signal down its path.

A signal is ``y(sigma) = x(sigma) - sigma * eps`` on the path of the probability flow that starts
at the noise ``eps``; see :class:`~kdlight.diffusion.signal.SignalDenoiser`.
"""

import torch
from torch import Tensor

from kdlight.core.noise import ReplayedDraws
from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.diffusion.samplers import euler_step, heun_correction
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.losses.progressive import Solver, implied_x0


def signal_step(teacher_x0: Tensor, y: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One DDIM step of a signal: exact as long as the teacher's estimate does not change.

    ``dy/dlog(sigma) = y - D`` with D constant has the solution
    ``y_next = D + (sigma_next / sigma) (y - D)``, which is the step that DDIM takes in x: the
    noise, ``sigma * eps`` before and ``sigma_next * eps`` after, drops out. The paper's Euler step
    in its own time agrees with it to first order.

    Args:
        teacher_x0: The teacher's estimate at ``y + sigma * eps``, (B, ...).
        y: Signal at ``sigma``, (B, ...).
        sigma: Noise level, (B,).
        sigma_next: Level to step to, (B,), at least 0.
    """
    return euler_step(y, teacher_x0, sigma, sigma_next)


@torch.no_grad()
def signal_target(
    teacher: Denoiser,
    noise: Tensor,
    y: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    condition: Condition | None = None,
    solver: Solver = "euler",
) -> Tensor:
    """Step signals down their paths with the teacher, each sample between levels of its own.

    Args:
        teacher: The denoiser that steps.
        noise: The noise ``eps`` the paths start at, (B, ...).
        y: Signals at ``sigma``, (B, ...).
        sigma: Noise levels, (B,), above 0.
        sigma_next: Levels to step to, (B,), at least 0.
        condition: What the samples are conditioned on.
        solver: Euler (DDIM), one call of the teacher; or Heun, two calls, whose errors pile up
            less from level to level. A Heun step to 0 is an Euler step.

    Returns:
        Signals at ``sigma_next``, without gradient.
    """
    x0 = teacher(_state(y, noise, sigma), sigma, condition)
    y_next = signal_step(x0, y, sigma, sigma_next)
    if solver == "euler":
        return y_next
    last = sigma_next == 0
    # No slope at level 0: these samples are asked again at their old level, and not corrected.
    safe = torch.where(last, sigma, sigma_next)
    x0_next = teacher(_state(y_next, noise, safe), safe, condition)
    # As in x, whose slopes have ``eps`` more at both ends.
    corrected = heun_correction(y, x0, x0_next, y_next, sigma, safe)
    return torch.where(last.reshape(-1, *[1] * (y.ndim - 1)), y_next, corrected)


def bootstrap_pair(
    student: SignalDenoiser,
    target: SignalDenoiser,
    teacher: Denoiser,
    noise: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    condition: Condition | None = None,
    solver: Solver = "euler",
    relative: bool = True,
) -> tuple[Tensor, Tensor]:
    """What the student says of the lower level, and what the teacher makes of the upper one.

    The paper divides the squared error by the squared step. Here a step is relative,
    ``1 - sigma_next / sigma``, and dividing by it means comparing the estimates of x0 that lead
    from ``y`` to either signal: with Euler the teacher's own ``D``. So both things returned are
    like clean samples, and any distance of samples fits.

    Args:
        student: The trained model.
        target: The student itself, or its average.
        teacher: The denoiser that steps.
        noise: Unit noise, (B, ...).
        sigma: Upper levels, (B,).
        sigma_next: Lower levels, (B,).
        condition: What the samples are conditioned on.
        solver: How the teacher steps.
        relative: Whether to divide by the step; else the signals at ``sigma_next`` are returned.

    Returns:
        The student's part and, without gradient, the target, both (B, ...).
    """
    draws = ReplayedDraws(noise.device)
    estimate = student.signal(noise, sigma_next, condition)
    # The same dropout masks at both levels, as for all that teach themselves.
    draws.rewind()
    with torch.no_grad():
        y = target.signal(noise, sigma, condition)
    y_next = signal_target(teacher, noise, y, sigma, sigma_next, condition, solver)
    if not relative:
        return estimate, y_next
    return (
        implied_x0(y, estimate, sigma, sigma_next),
        implied_x0(y, y_next, sigma, sigma_next),
    )


def boundary_pair(
    student: SignalDenoiser,
    teacher: Denoiser,
    noise: Tensor,
    condition: Condition | None = None,
) -> tuple[Tensor, Tensor]:
    """The student's signal at ``sigma_max`` and the teacher's estimate there, from noise alone.

    Where does a path start? On one that comes down from infinity
    ``y(sigma) = sigma * integral of D(u) / u^2 from sigma to infinity``, a mean of the estimates
    above ``sigma``, most of them near. At ``sigma_max`` these are all
    ``D(sigma_max * eps, sigma_max)``, but for what the estimate has yet to change: by
    ``s^2 / (2 sigma_max) * eps`` for Gaussian data of deviation s. (A walk from
    ``x = sigma_max * eps`` starts at y = 0 instead, and on ``(1 - sigma / sigma_max) D`` it
    is at the same mean a few levels later: a bend to learn for nothing.)

    Args:
        student: The trained model.
        teacher: The denoiser that is asked.
        noise: Unit noise, (B, ...).
        condition: What the samples are conditioned on.

    Returns:
        The student's signal and, without gradient, the teacher's estimate, both (B, ...).
    """
    sigma = torch.full((len(noise),), student.sigma_max, dtype=torch.float64, device=noise.device)
    with torch.no_grad():
        x0 = teacher(_state(torch.zeros_like(noise), noise, sigma), sigma, condition)
    return student.signal(noise, sigma, condition), x0


def _state(y: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    return y + expand(sigma, y).to(y.dtype) * noise
