"""Continuous-time consistency models, sCM (Lu & Song 2024, arXiv:2410.11081)."""

from typing import ClassVar

import torch
from torch import Tensor

from kdlight.core.noise import ReplayedDraws
from kdlight.core.ranges import NonNegativeFloat, NonNegativeInt, Probability
from kdlight.core.whole import whole
from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.denoisers import ArcDenoiser, Condition, Denoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import LogNormalNoise, NoiseLaw
from kdlight.diffusion.students import LikeTeacher, copy_of, student_of
from kdlight.errors import InputError
from kdlight.losses.continuous import (
    Derivative,
    TangentLimit,
    directional_derivative,
    limited,
    tangent,
    tangent_error,
    teacher_velocity,
    warmup_share,
)
from kdlight.networks.loss_weight import AdaptiveWeight
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class ContinuousConsistency(FewStepModule):
    """Make the student constant along the ODE: follow its derivative, no second noise level.

    With a teacher (sCD) the ODE is the teacher's, and the student starts as its copy; without
    (sCT) a single clean sample stands in for the teacher's estimate.

    Args:
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        teacher: Whose ODE is distilled; null trains from data alone.
        student: A student of its own, of EDM, TrigFlow, VP or flow, or how it differs from the
            teacher; null copies the teacher's network.
        shape: Shape of one sample, needed without a teacher.
        dropout: Dropout of the copied network; null leaves the teacher's.
        noise_law: Law of ``sigma_data tan t``; null is the paper's for CIFAR-10, log-normal with
            mean -1.0 and standard deviation 1.4.
        weighting: The adaptive weight of section 4.2, which the paper uses; null weighs all
            times alike, which small students need: where one can be exact, its error goes to 0
            and the weight of what is left without bound.
        weighting_optimizer: Settings of its optimizer; null takes the student's.
        derivative: How ``dF/dt`` is computed, see
            :func:`~kdlight.losses.continuous.directional_derivative`.
        warmup: Iterations H over which the second term of the tangent is let in.
        limit: How the tangent is kept short, see :func:`~kdlight.losses.continuous.limited`.
        c: Length at which normalisation halves a tangent.
        intermediate: Noise levels at which a walk of several steps goes on, falling. The paper's
            two steps go on at t = 1.1, which is 0.98 at ``sigma_data`` 0.5.
        ema_half_life: Half-life of the average that samples, in updates.
        augmentation: Augmentation the student and the teacher are told of.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    student: ArcDenoiser

    # Rounding is part of what is differentiated; a central difference divides it by its step.
    needs_float32: ClassVar[bool] = True

    def __init__(
        self,
        optimizer: Optimization,
        iterations: int = 10_000,
        teacher: Generator | None = None,
        student: Denoiser | LikeTeacher | None = None,
        shape: list[int] | None = None,
        dropout: Probability | None = None,
        noise_law: NoiseLaw | None = None,
        weighting: AdaptiveWeight | None = None,
        weighting_optimizer: Optimization | None = None,
        derivative: Derivative = "jvp",
        warmup: NonNegativeInt = 10_000,
        limit: TangentLimit = "normalize",
        c: NonNegativeFloat = 0.1,
        intermediate: list[float] = [0.98],  # noqa: B006 - never changed
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        student = student_of(student, teacher, dropout, copy_of)
        if not isinstance(student, ArcDenoiser):
            raise InputError(
                "student: expected an EDMDenoiser, TrigFlowDenoiser, VPDenoiser or FlowDenoiser, "
                f"which have a velocity in continuous time, found a {type(student).__name__}."
            )
        parts = {"student": optimizer}
        if weighting is not None:
            parts["weighting"] = weighting_optimizer or optimizer
        super().__init__(
            student,
            parts,
            iterations,
            teacher=teacher,
            shape=shape,
            intermediate=intermediate,
            ema_half_life=ema_half_life,
            augmentation=augmentation,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.noise_law = noise_law or LogNormalNoise(-1.0, 1.4)
        self.weighting = weighting
        self.derivative = derivative
        self.warmup = warmup
        self.limit = limit
        self.c = c

    def step(self, batch: Batch) -> None:
        # Algorithm 1 of the paper.
        x0, condition = self.prepare(batch)
        sigma_data = self.student.sigma_data
        t = (self.noise_law(self.noise.uniform(len(x0))) / sigma_data).atan()
        cos, sin = expand(t.cos(), x0).to(x0.dtype), expand(t.sin(), x0).to(x0.dtype)
        z = sigma_data * self.noise.normal(x0)
        x_t = cos * x0 + sin * z
        teacher = self.teacher_generator()
        if teacher is None:
            dx_t = cos * z - sin * x0
        else:
            with torch.no_grad():
                dx_t = teacher_velocity(teacher.denoiser, x_t, t, sigma_data, condition)
        error = self.consistency_error(x_t, dx_t, t, condition)
        if self.weighting is None:
            loss = error.mean()
            self.optimize("student", loss)
        else:
            # Eq. 8, e^w error - w, in two: one part for each optimizer.
            w = self.weighting(t)
            loss = (w.detach().exp() * error).mean()
            self.optimize("student", loss)
            self.optimize("weighting", (w.exp() * error.detach() - w).mean())
        self.report({"consistency": loss.detach(), "tangent": error.detach().mean()})

    def consistency_error(
        self, x_t: Tensor, dx_t: Tensor, t: Tensor, condition: Condition
    ) -> Tensor:
        """``|F - F^- - g|^2 / D`` (eq. 8) at states on the arc with the velocity ``dx_t``, (B,)."""
        sigma_data = self.student.sigma_data
        scaled = x_t / sigma_data
        draws = ReplayedDraws(x_t.device)
        estimate = self.student.velocity(scaled, t, condition)
        draws.rewind()
        # Along the ODE, and times cos t sin t, which keeps the derivative finite at both ends.
        dt = t.cos() * t.sin()
        with whole(self.student):
            change = directional_derivative(
                lambda x, time: self.student.velocity(x, time, condition),
                scaled,
                t,
                expand(dt, x_t).to(x_t.dtype) * dx_t / sigma_data,
                dt,
                self.derivative,
            )
        share = warmup_share(self.iteration, self.warmup)
        g = tangent(estimate.detach(), change, x_t, dx_t, t, sigma_data, share)
        return tangent_error(estimate, limited(g, self.limit, self.c))
