"""Samplers of the probability-flow ODE ``dx/dsigma = (x - D) / sigma``, and a stochastic one.

Free functions of a denoiser, a starting point and a grid. ``noise`` is the state at
``sigmas[0]`` (:meth:`Denoiser.prior` makes it); the result is the state at the last level.
"""

import itertools
from typing import Literal, Protocol

import torch
from torch import Tensor

from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.diffusion.flow_map import FlowMap
from kdlight.errors import InputError


class StepCallback(Protocol):
    """Called after each step with its index, its level, the new state and the estimate of x0."""

    def __call__(self, step: int, sigma: float, x: Tensor, x0: Tensor) -> None: ...


def euler_step(x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One Euler step of the ODE, which is one DDIM step (Song et al. 2020, arXiv:2010.02502).

    Written as ``x0 + (sigma_next / sigma) (x - x0)``: a step to 0 returns ``x0`` bit for bit and
    a step from a level to itself returns ``x`` up to rounding.

    Args:
        x: State at ``sigma``, (B, ...).
        x0: The denoiser's estimate there.
        sigma: Level of the state, () or (B,).
        sigma_next: Level to step to, () or (B,).
    """
    ratio = (expand(sigma_next, x) / expand(sigma, x)).to(x.dtype)
    return x0 + ratio * (x - x0)


def heun_correction(
    x: Tensor, x0: Tensor, x0_next: Tensor, x_next: Tensor, sigma: Tensor, sigma_next: Tensor
) -> Tensor:
    """Second half of a Heun step: average of the slopes at both ends (EDM, algorithm 1)."""
    here, there = expand(sigma, x), expand(sigma_next, x)
    step = there - here
    slope = (x - x0) / here.to(x.dtype)
    slope_next = (x_next - x0_next) / there.to(x.dtype)
    return x + (step / 2).to(x.dtype) * (slope + slope_next)


@torch.no_grad()
def sample_euler(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    condition: Condition | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Euler, which is DDIM with eta 0. One network call a step."""
    x = noise
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x0 = denoiser(x, sigma, condition)
        x = euler_step(x, x0, sigma, sigma_next)
        if callback is not None:
            callback(step, float(sigma), x, x0)
    return x


@torch.no_grad()
def sample_heun(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    condition: Condition | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Heun's second-order method (EDM, algorithm 1 with no churn). 2n - 1 network calls."""
    x = noise
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x0 = denoiser(x, sigma, condition)
        x_next = euler_step(x, x0, sigma, sigma_next)
        if sigma_next > 0:
            x0_next = denoiser(x_next, sigma_next, condition)
            x_next = heun_correction(x, x0, x0_next, x_next, sigma, sigma_next)
        x = x_next
        if callback is not None:
            callback(step, float(sigma), x, x0)
    return x


@torch.no_grad()
def sample_euler_ancestral(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    condition: Condition | None = None,
    callback: StepCallback | None = None,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Euler with fresh noise at each step; ``eta`` 1 is DDPM's posterior variance, 0 is Euler.

    ``sigma_up^2 = eta^2 sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2`` and
    ``sigma_down^2 = sigma_next^2 - sigma_up^2``, so the marginal level is ``sigma_next``.
    """
    x = noise
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x0 = denoiser(x, sigma, condition)
        up = eta * sigma_next * (1 - (sigma_next / sigma) ** 2).sqrt()
        down = (sigma_next**2 - up**2).clamp(min=0).sqrt()
        x = euler_step(x, x0, sigma, down)
        if up > 0:
            fresh = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            x = x + (expand(up, x)).to(x.dtype) * fresh
        if callback is not None:
            callback(step, float(sigma), x, x0)
    return x


@torch.no_grad()
def sample_dpmpp_2m(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    condition: Condition | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2). One call a step.

    In variance-exploding coordinates the half-log-SNR is ``lambda = -log sigma``. The first step
    and the step to 0 are first order.
    """
    x = noise
    previous: Tensor | None = None
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x0 = denoiser(x, sigma, condition)
        estimate = x0
        if previous is not None and sigma_next > 0:
            h = (sigma / sigma_next).log()
            h_last = (sigmas[step - 1] / sigma).log()
            weight = float(h / (2 * h_last))
            estimate = x0 + weight * (x0 - previous)
        x = euler_step(x, estimate, sigma, sigma_next)
        previous = x0
        if callback is not None:
            callback(step, float(sigma), x, x0)
    return x


@torch.no_grad()
def sample_consistency(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    condition: Condition | None = None,
    callback: StepCallback | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, arXiv:2303.01469, algorithm 1).

    Each step jumps to the data and back up to the next level with fresh noise; the estimate holds
    noise of level ``denoiser.boundary`` already, so ``sqrt(sigma_next^2 - boundary^2)`` is added.
    """
    x = noise
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x0 = denoiser(x, sigma, condition)
        x = x0
        if sigma_next > 0:
            fresh = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            added = (sigma_next**2 - denoiser.boundary**2).clamp(min=0).sqrt()
            x = x0 + expand(added, x).to(x.dtype) * fresh
        if callback is not None:
            callback(step, float(sigma), x, x0)
    return x


@torch.no_grad()
def sample_jump(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    condition: Condition | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Jumps of a flow map from level to level (MeanFlow: arXiv:2505.13447, eq. 12). One call each.

    The estimate of x0 that a callback is given is where the straight line through a jump's ends
    meets level 0.

    Raises:
        InputError: The denoiser is no flow map.
    """
    if not isinstance(denoiser, FlowMap):
        raise InputError(
            f"algorithm: jump expects a flow map such as MeanFlowDenoiser, "
            f"found {type(denoiser).__name__}."
        )
    x = noise
    for step, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x_next = denoiser.jump(x, sigma, sigma_next, condition)
        if callback is not None:
            slope = (x - x_next) / expand(sigma - sigma_next, x).to(x.dtype)
            x0 = x_next - expand(sigma_next, x).to(x.dtype) * slope
            callback(step, float(sigma), x_next, x0)
        x = x_next
    return x


Algorithm = Literal["euler", "heun", "euler_ancestral", "dpmpp_2m", "consistency", "jump"]

SAMPLERS = {
    "euler": sample_euler,
    "heun": sample_heun,
    "euler_ancestral": sample_euler_ancestral,
    "dpmpp_2m": sample_dpmpp_2m,
    "consistency": sample_consistency,
    "jump": sample_jump,
}


def function_evaluations(algorithm: Algorithm, steps: int) -> int:
    """Calls of the denoiser in a walk of ``steps`` steps that ends at 0."""
    return 2 * steps - 1 if algorithm == "heun" else steps
