"""The tangent of continuous-time consistency models, on TrigFlow's arc.

``x_t = cos t x0 + sin t z`` with ``z ~ N(0, sigma_data^2 I)``; the consistency function is
``f = cos t x_t - sin t sigma_data F``, and ``F(x_t / sigma_data, t)`` what the network says.
Equations are those of Lu & Song 2024 (arXiv:2410.11081).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdlight.core.noise import ReplayedDraws
from kdlight.diffusion.denoisers import Condition, Denoiser, expand

Velocity = Callable[[Tensor, Tensor], Tensor]
"""F as a function of ``x_t / sigma_data`` (B, ...) and t (B,)."""

Derivative = Literal["jvp", "finite_difference"]
TangentLimit = Literal["normalize", "clip"]


def teacher_velocity(
    teacher: Denoiser, x_t: Tensor, t: Tensor, sigma_data: float, condition: Condition | None = None
) -> Tensor:
    """``dx_t/dt = (cos t x_t - D) / sin t``, the ODE of any denoiser D, walked along the arc.

    Args:
        teacher: D, called at ``x = x_t / cos t`` and ``sigma = sigma_data tan t``.
        x_t: States on the arc, (B, ...).
        t: Times in (0, pi/2), (B,), float64.
        sigma_data: Standard deviation of the data.
        condition: What the samples are conditioned on.
    """
    cos, sin = expand(t.cos(), x_t).to(x_t.dtype), expand(t.sin(), x_t).to(x_t.dtype)
    x0: Tensor = teacher(x_t / cos, sigma_data * t.tan(), condition)
    return (cos * x_t - x0) / sin


@torch.no_grad()
def directional_derivative(
    velocity: Velocity,
    x: Tensor,
    t: Tensor,
    dx: Tensor,
    dt: Tensor,
    derivative: Derivative = "jvp",
    step: float = 5e-3,
) -> Tensor:
    """The derivative of F at (x, t) in the direction (dx, dt), without gradient.

    Args:
        velocity: F.
        x: Where, (B, ...).
        t: When, (B,).
        dx: Direction in x, shape and dtype of ``x``.
        dt: Direction in t, shape and dtype of ``t``.
        derivative: Exact, by forward-mode differentiation, or the central difference
            ``(F(x + h dx, t + h dt) - F(x - h dx, t - h dt)) / 2h``: two plain evaluations with
            the same dropout masks, for networks with a part that has no forward-mode derivative,
            and cheaper on a CPU.
        step: h of the central difference, which divides the rounding of F, 1e-7 of it or more in
            float32, and errs by ``h^2 / 6`` of the third derivative. With ``dt = cos t sin t`` and
            h up to 1 both points stay between 0 and pi/2.

    Returns:
        The derivative, of the shape of ``x``.
    """
    if derivative == "jvp":
        # The fused attention kernels have no forward-mode derivative.
        with sdpa_kernel(SDPBackend.MATH):
            _, change = torch.func.jvp(velocity, (x, t), (dx, dt))  # type: ignore[misc]
        return change  # type: ignore[no-any-return]
    draws = ReplayedDraws(x.device)
    ahead = velocity(x + step * dx, t + step * dt)
    draws.rewind()
    behind = velocity(x - step * dx, t - step * dt)
    return (ahead - behind) / (2 * step)


def warmup_share(iteration: int, warmup: int) -> float:
    """``r = min(1, k / H)`` at iteration k, the share of the tangent's unstable term (section 4.2).

    Args:
        iteration: k, from 0.
        warmup: H; 0 for none.
    """
    return min(1.0, iteration / warmup) if warmup > 0 else 1.0


def tangent(
    value: Tensor,
    change: Tensor,
    x_t: Tensor,
    dx_t: Tensor,
    t: Tensor,
    sigma_data: float,
    share: float = 1.0,
) -> Tensor:
    """``g = cos t df/dt``, its second term times r (algorithm 1).

    ``g = -cos^2 t (sigma_data F - dx_t/dt) - r (cos t sin t x_t + sigma_data cos t sin t dF/dt)``.
    It vanishes where f is constant along the ODE. With r = 0, following g is training F as the
    velocity of a diffusion model.

    Args:
        value: F, (B, ...).
        change: ``cos t sin t dF/dt``, the derivative along the ODE; (B, ...).
        x_t: States, (B, ...).
        dx_t: Their velocity, ``dx_t/dt``.
        t: Times, (B,), float64.
        sigma_data: Standard deviation of the data.
        share: r in [0, 1].

    Returns:
        g, (B, ...).
    """
    cos, sin = expand(t.cos(), x_t), expand(t.sin(), x_t)
    denoising = (cos**2).to(x_t.dtype) * (sigma_data * value - dx_t)
    consistency = (cos * sin).to(x_t.dtype) * x_t + sigma_data * change
    return -denoising - share * consistency


def limited(g: Tensor, limit: TangentLimit = "normalize", c: float = 0.1) -> Tensor:
    """The tangent at a length that does not blow up (section 4.2).

    A tangent from a single clean sample is right on average only, and lengths made equal move the
    average. In many dimensions all are of nearly one length; in a few, take c above it.

    Args:
        g: Tangents, (B, ...).
        limit: ``normalize`` gives ``g / (|g| + c)`` with the Euclidean norm of each sample; the
            paper writes ``||g||`` and no more, and some public versions divide the norm by the
            root of the sample's size, beside which c weighs as many times more. ``clip`` cuts every
            number to [-1, 1], the paper's alternative.
        c: Length at which a tangent is halved.
    """
    if limit == "clip":
        return g.clamp(-1, 1)
    length: Tensor = torch.linalg.vector_norm(g.flatten(1), dim=1) + c
    return g / length.reshape(-1, *[1] * (g.ndim - 1))


def tangent_error(estimate: Tensor, g: Tensor) -> Tensor:
    """``|F - F^- - g|^2 / D`` of each sample (eq. 8), (B,), in float32 at least.

    F^- is F without gradient, so the error is ``|g|^2 / D`` and its gradient that of
    ``-2 g . F / D``.

    Args:
        estimate: F, with gradient, (B, ...).
        g: Tangents, (B, ...).
    """
    dtype = torch.promote_types(estimate.dtype, torch.float32)
    difference = estimate.to(dtype) - estimate.detach().to(dtype) - g.detach().to(dtype)
    return difference.flatten(1).square().mean(1)
