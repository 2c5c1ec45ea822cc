"""MeanFlow's loss (Geng et al. 2025, arXiv:2505.13447), on ``z_t = (1 - t) x0 + t eps``."""

import torch
from torch import Tensor

from kdlight.core.noise import ReplayedDraws
from kdlight.core.whole import whole
from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.sigmas import NoiseLaw
from kdlight.losses.continuous import Derivative, directional_derivative


def time_pairs(law: NoiseLaw, uniform: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Times ``r <= t`` of a batch: two draws in order, and mostly ``r = t`` (section 4.3).

    Args:
        law: Law of both times, given by their noise levels ``t / (1 - t)``.
        uniform: Numbers uniform in [0, 1), (3, B).
        ratio: Share of samples with ``r != t``, from 0 to 1.

    Returns:
        r and t, (B,) each, float64.
    """
    first, second, differ = uniform
    sigma = torch.stack([law(first), law(second)])
    times = sigma / (1 + sigma)
    r, t = times.amin(0), times.amax(0)
    return torch.where(differ < ratio, r, t), t


def teacher_velocity(
    teacher: Denoiser, z: Tensor, t: Tensor, condition: Condition | None = None
) -> Tensor:
    """Velocity ``(z - D) / t`` of a teacher's probability flow at ``z`` and times t (B,) above 0.

    It is the mean of ``eps - x0`` for all data and noise that meet in ``z``.
    """
    scale = 1 / (1 - expand(t, z))
    with torch.no_grad():
        x0: Tensor = teacher(scale.to(z.dtype) * z, t / (1 - t), condition)
    return (z - x0) / expand(t, z).to(z.dtype)


@torch.no_grad()
def guided_velocity(
    student: MeanFlowDenoiser,
    z: Tensor,
    t: Tensor,
    v: Tensor,
    condition: Condition,
    omega: float,
    kappa: float,
) -> Tensor:
    """Velocity of the guided flow, ``omega v + kappa u(c) + (1 - omega - kappa) u(none)``.

    With ``u`` at (z, t, t), which is the student's own guided velocity (section 4.2 and the
    appendix on improved guidance): the guidance scale is ``omega / (1 - kappa)``. Samples whose
    class was dropped are not guided.

    Args:
        student: Tells ``u``.
        z: States, (B, ...).
        t: Times, (B,).
        v: Velocities without guidance, (B, ...).
        condition: Holds ``label`` (B,), the number of classes where it was dropped.
        omega: Weight of ``v``.
        kappa: Weight of the student's velocity with the class.
    """
    guided = omega * v
    if kappa != 0:
        guided = guided + kappa * student.velocity(z, t, t, condition)
    if omega + kappa != 1:
        rest = {name: value for name, value in condition.items() if name != "label"}
        guided = guided + (1 - omega - kappa) * student.velocity(z, t, t, rest)
    dropped = condition["label"] == student.num_classes
    return torch.where(dropped.reshape(-1, *[1] * (z.ndim - 1)), v, guided)


def velocity_and_rate(
    student: MeanFlowDenoiser,
    z: Tensor,
    r: Tensor,
    t: Tensor,
    v: Tensor,
    condition: Condition | None = None,
    derivative: Derivative = "jvp",
) -> tuple[Tensor, Tensor]:
    """``u(z, r, t)`` and its rate ``du/dt = v . d_z u + d_t u`` along the flow, r held.

    The paper takes both from one Jacobian-vector product. Here ``u`` has a pass of its own, with
    the dropout masks of the other: no graph is kept of the derivative, into which no gradient
    flows, and the time is the same.

    Args:
        student: Tells ``u``.
        z: States, (B, ...).
        r: Lower times, (B,).
        t: Upper times, (B,).
        v: Velocities, the tangent of ``z``.
        condition: What the samples are conditioned on.
        derivative: Exact, or the central difference of two plain passes, which costs half on a
            CPU: see :func:`~kdlight.losses.continuous.directional_derivative`.
    """

    def u_along(z: Tensor, t: Tensor) -> Tensor:
        return student.velocity(z, r, t, condition)

    draws = ReplayedDraws(z.device)
    u = u_along(z, t)
    draws.rewind()
    with whole(student):
        return u, directional_derivative(u_along, z, t, v, torch.ones_like(t), derivative)


def mean_flow_target(v: Tensor, rate: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """The MeanFlow identity ``u = v - (t - r) du/dt`` (eq. 6), without gradient."""
    return (v - expand(t - r, v).to(v.dtype) * rate).detach()


def adaptive_weight(square: Tensor, power: float = 1.0, offset: float = 1e-3) -> Tensor:
    """``1 / (square + offset)^power`` of squared errors, any shape, without gradient (eq. 22).

    Power 0 is the squared error, 0.5 nearly the pseudo-Huber loss; with 1, which suits most, a
    gradient is the longer the *smaller* the error.
    """
    return (square.detach() + offset) ** -power
