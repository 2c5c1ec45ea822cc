"""Consistency distillation (Song et al. 2023, arXiv:2303.01469, algorithm 2)."""

from typing import ClassVar

import torch

from kdlight.core.ranges import Probability
from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.curricula import (
    ConstantCurriculum,
    Curriculum,
    IndexLaw,
    TargetDecay,
    UniformIndex,
)
from kdlight.diffusion.denoisers import Denoiser, GuidedDenoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.diffusion.students import LikeTeacher, consistency_student, student_of
from kdlight.losses.consistency import PairWeight, consistency_pair, pair_weight
from kdlight.losses.distances import Distance, SquaredL2
from kdlight.losses.progressive import Solver, teacher_walk
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class ConsistencyDistillation(FewStepModule):
    """Make the two ends of one step of the teacher's ODE solver agree on where the ODE ends.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        curriculum: Number N of noise levels; the paper holds it constant (18 for CIFAR-10, 40
            for ImageNet at 64 x 64).
        rho: Curvature of the Karras grid of levels.
        solver: How the teacher steps from a level to the one below; the paper finds Heun to be
            far better than Euler.
        index_law: Which pair of neighbouring levels is drawn.
        distance: Between the two estimates. The paper's best is LPIPS, here
            :class:`~kdlight.losses.distances.FeatureDistance`.
        weighting: Weight of a pair.
        target_decay: Decay of the average the student regresses onto; null is mu = 0, the student
            itself, which the paper uses on CIFAR-10 (0.95 on ImageNet).
        student: A student of another shape, or how it differs from the teacher; null copies the
            teacher's network.
        dropout: Dropout of the copied network; null leaves the teacher's.
        guidance_scale: Guidance distilled in; 1 is none.
        intermediate: Noise levels at which a walk of several steps goes on, falling.
        ema_half_life: Half-life of the average that samples, in updates.
        augmentation: Augmentation the student and the teacher are told of.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    # The two estimates of a pair differ by less than bfloat16 rounds them.
    needs_float32: ClassVar[bool] = True

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        iterations: int = 10_000,
        curriculum: Curriculum | None = None,
        rho: float = 7.0,
        solver: Solver = "heun",
        index_law: IndexLaw | None = None,
        distance: Distance | None = None,
        weighting: PairWeight = "constant",
        target_decay: TargetDecay | None = None,
        student: Denoiser | LikeTeacher | None = None,
        dropout: Probability | None = None,
        guidance_scale: float = 1.0,
        intermediate: list[float] = [0.8],  # noqa: B006 - never changed
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            student_of(student, teacher, dropout, consistency_student),
            {"student": optimizer},
            iterations,
            teacher=teacher,
            intermediate=intermediate,
            ema_half_life=ema_half_life,
            augmentation=augmentation,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.guided = GuidedDenoiser(teacher.denoiser, guidance_scale)
        self.add_frozen("guided", self.guided)
        self.grid = KarrasGrid(self.student.sigma_min, self.student.sigma_max, rho)
        self.curriculum = curriculum or ConstantCurriculum()
        self.solver = solver
        self.index_law = index_law or UniformIndex()
        self.distance = distance or SquaredL2()
        self.weighting = weighting
        self.target_decay = target_decay
        self.target = (
            None if target_decay is None else EMA(self.student, 0.0, 0.0, evaluation=False)
        )
        if self.target is not None:
            self.average("student", self.target)

    def step(self, batch: Batch) -> None:
        x0, condition = self.prepare(batch)
        count = self.curriculum.levels(self.iteration, self.iterations)
        levels = self.grid.sigmas(count)[:-1].flip(0).to(x0.device)
        index = self.index_law(levels, self.noise.uniform(len(x0)))
        sigma_below, sigma = levels[index], levels[index + 1]
        x = x0 + expand(sigma, x0).to(x0.dtype) * self.noise.normal(x0)
        with torch.no_grad():
            pair = torch.stack([sigma, sigma_below], dim=1)
            x_below = teacher_walk(self.guided, x, pair, condition, self.solver)
        target = self.student if self.target is None else self.target.module
        estimate, target_estimate = consistency_pair(
            self.student, target, x, sigma, x_below, sigma_below, condition
        )
        distance = self.distance(estimate, target_estimate)
        weight = pair_weight(sigma, sigma_below, self.weighting).to(distance)
        loss = (weight * distance).mean()
        if self.target is not None and self.target_decay is not None:
            self.target.follow(self.target_decay.decay(count))
        self.optimize("student", loss)
        self.report({"consistency": loss.detach()})
