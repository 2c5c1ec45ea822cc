"""MeanFlow (Geng et al. 2025, arXiv:2505.13447): the average velocity of a flow, learnt at once."""

from typing import ClassVar

import torch
from torch import Tensor

from kdlight.core.ranges import PositiveFloat, Probability
from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.denoisers import Condition, expand
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import FlowNoise, NoiseLaw
from kdlight.diffusion.students import mean_flow_student, student_of
from kdlight.errors import InputError
from kdlight.losses.continuous import Derivative
from kdlight.losses.mean_flow import (
    adaptive_weight,
    guided_velocity,
    mean_flow_target,
    teacher_velocity,
    time_pairs,
    velocity_and_rate,
)
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class MeanFlow(FewStepModule):
    """Regress a network of the average velocity onto what its own derivative says of it.

    The defaults are the paper's for ImageNet. For CIFAR-10 it has ``FlowNoise(-2.0, 2.0)``,
    ``ratio`` 0.75 and ``power`` 0.75.

    Args:
        student: The flow map to train; null copies the network of a latent teacher of flow
            matching, such as Stable Diffusion 3, which then is told how far a jump goes.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        teacher: A model whose probability flow is distilled; null learns from data alone.
        shape: Shape of one sample, such as (1, 8, 8), needed without a teacher.
        noise_law: Law of both times, by their noise levels.
        ratio: Share of samples with ``r != t``; the rest is flow matching.
        power: Power p of the adaptive weight.
        offset: Constant c of the adaptive weight.
        derivative: How the rate of the average velocity is taken: exactly, or by a central
            difference, which costs half on a CPU.
        guidance_scale: The paper's omega, 1 for no guidance; in all, the flow is guided by
            ``guidance_scale / (1 - guidance_mix)``.
        guidance_mix: The paper's kappa, the student's own share in the guided velocity.
        class_dropout: Share of samples trained without their label, for guidance.
        intermediate: Noise levels at which a walk of several steps goes on, falling; 1 is the
            middle, t = 0.5.
        ema_half_life: Half-life of the average that samples, in updates.
        augmentation: Augmentation the student (and the teacher) is told of.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    student: MeanFlowDenoiser

    # Rounding is part of what is differentiated; a central difference divides it by its step.
    needs_float32: ClassVar[bool] = True

    def __init__(
        self,
        student: MeanFlowDenoiser | None,
        optimizer: Optimization,
        iterations: int = 10_000,
        teacher: Generator | None = None,
        shape: list[int] | None = None,
        noise_law: NoiseLaw | None = None,
        ratio: Probability = 0.25,
        power: float = 1.0,
        offset: PositiveFloat = 1e-3,
        derivative: Derivative = "jvp",
        guidance_scale: float = 1.0,
        guidance_mix: float = 0.0,
        class_dropout: float = 0.0,
        intermediate: list[float] = [1.0],  # noqa: B006 - never changed
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        student = student_of(student, teacher, None, mean_flow_student)
        _check_guidance(student, guidance_scale, guidance_mix, class_dropout)
        super().__init__(
            student,
            {"student": optimizer},
            iterations,
            teacher=teacher,
            shape=shape,
            intermediate=intermediate,
            algorithm="jump",
            ema_half_life=ema_half_life,
            augmentation=augmentation,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.noise_law = noise_law or FlowNoise(-0.4, 1.0)
        self.ratio = ratio
        self.power, self.offset = power, offset
        self.derivative = derivative
        self.guidance_scale, self.guidance_mix = guidance_scale, guidance_mix
        self.class_dropout = class_dropout

    def step(self, batch: Batch) -> None:
        # Algorithm 1 of the paper.
        x0, condition = self.prepare(batch)
        uniform = torch.stack([self.noise.uniform(len(x0)) for _ in range(3)])
        r, t = time_pairs(self.noise_law, uniform, self.ratio)
        eps = self.noise.normal(x0)
        time = expand(t, x0).to(x0.dtype)
        z = (1 - time) * x0 + time * eps
        v = eps - x0
        teacher = self.teacher_generator()
        if teacher is not None:
            v = teacher_velocity(teacher.denoiser, z, t, condition)
        if (self.guidance_scale, self.guidance_mix) != (1, 0):
            v = guided_velocity(
                self.student, z, t, v, condition, self.guidance_scale, self.guidance_mix
            )
        u, rate = velocity_and_rate(self.student, z, r, t, v, condition, self.derivative)
        square = (u - mean_flow_target(v, rate, r, t)).flatten(1).square().sum(1)
        loss = (adaptive_weight(square, self.power, self.offset) * square).mean()
        self.optimize("student", loss)
        self.report({"mean_flow": loss.detach(), "square": square.detach().mean()})

    def prepare(self, batch: Batch) -> tuple[Tensor, Condition]:
        """As every few-step method, with classes dropped."""
        x0, condition = super().prepare(batch)
        if self.class_dropout > 0:
            dropped = self.noise.uniform(len(x0)) < self.class_dropout
            condition["label"] = torch.where(dropped, self.student.num_classes, condition["label"])
        return x0, condition


def _check_guidance(
    student: MeanFlowDenoiser, scale: float, mix: float, class_dropout: float
) -> None:
    null_class = student.num_classes > 0 and getattr(student.network, "null_class", True)
    if not 0 <= class_dropout < 1:
        raise InputError(f"class_dropout: expected a number in [0, 1), found {class_dropout}.")
    if class_dropout > 0 and not null_class:
        raise InputError(
            f"class_dropout: expected 0 for a network that has no class to drop, or none to put in "
            f"its place, found {class_dropout}."
        )
    if not 0 <= mix < 1:
        raise InputError(f"guidance_mix: expected a number in [0, 1), found {mix}.")
    if student.num_classes == 0 and (scale, mix) != (1, 0):
        raise InputError(
            f"guidance_scale: expected 1, and guidance_mix 0, for a student without classes, found "
            f"{scale} and {mix}."
        )
    if scale + mix != 1 and class_dropout == 0:
        raise InputError(
            f"class_dropout: expected a number above 0 with guidance_scale {scale} and "
            f"guidance_mix {mix}, which need a velocity without class, found 0."
        )
