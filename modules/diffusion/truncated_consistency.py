"""Truncated consistency models, TCM (Lee et al. 2024, arXiv:2410.14895)."""

import copy

import torch
from torch import Tensor

from kdlight.core.ranges import Probability
from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.denoisers import Condition, Denoiser, SwitchedDenoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import LogStudentNoise, NoiseLaw
from kdlight.diffusion.students import LikeTeacher
from kdlight.errors import InputError
from kdlight.losses.consistency import PairWeight, consistency_pair, pair_weight, tuned_level
from kdlight.losses.distances import Distance
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_tuning import ConsistencyTuning


class TruncatedConsistency(ConsistencyTuning):
    """Consistency tuning, and then above a noise level only: forget to denoise, learn to generate.

    The first stage is :class:`~modules.diffusion.consistency_tuning.ConsistencyTuning`. Its result
    is kept as f_0 and is the start of the second, in which the student is trained at levels above
    ``boundary``. Below it f_0 stands in; a share of every batch are pairs whose upper level is the
    boundary itself, which hold the student to f_0: without them agreeing on a constant would be a
    solution.

    Args:
        optimizer: Settings of the student's optimizer; schedules span one stage.
        iterations: Training batches of both stages.
        tuning_iterations: Training batches of the first stage; 0 if the start is a consistency
            model already.
        teacher: The diffusion model to start from and to compare with.
        student: A student to start from instead, or how it differs from the teacher.
        shape: Shape of one sample, needed without a teacher.
        dropout: Dropout of the copied network; null leaves the teacher's.
        noise_law: Law of the upper level in the first stage.
        truncated_law: Law of the upper level in the second.
        boundary: The noise level t' above which the second stage trains.
        boundary_share: Share of a batch at the boundary.
        boundary_weight: Weight of the boundary loss.
        stages: Steps of the first stage's mapping; the second stays at the last.
        q: See ``ConsistencyTuning``; so k and b.
        k: How much wider the gap of a pair is at small noise.
        b: Where small noise ends, in units of 1 / sigma.
        distance: Between the two estimates.
        weighting: Weight of a pair.
        intermediate: Noise levels at which a walk of several steps goes on, not below
            ``boundary``.
        ema_half_life: Half-life of the average that samples, in updates.
        augmentation: Augmentation the student is told of.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        optimizer: Optimization,
        iterations: int = 10_000,
        tuning_iterations: int = 5_000,
        teacher: Generator | None = None,
        student: Denoiser | LikeTeacher | None = None,
        shape: list[int] | None = None,
        dropout: Probability | None = None,
        noise_law: NoiseLaw | None = None,
        truncated_law: NoiseLaw | None = None,
        boundary: float = 1.0,
        boundary_share: float = 0.25,
        boundary_weight: float = 0.1,
        stages: int = 8,
        q: float = 2.0,
        k: float = 8.0,
        b: float = 1.0,
        distance: Distance | None = None,
        weighting: PairWeight = "inverse_gap",
        intermediate: list[float] = [1.0],  # noqa: B006 - never changed
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            optimizer,
            iterations,
            teacher,
            student,
            shape,
            dropout,
            noise_law,
            stages,
            q,
            k,
            b,
            distance,
            weighting,
            intermediate,
            ema_half_life,
            augmentation,
            accumulate,
            seed,
            max_non_finite,
        )
        if not 0 <= tuning_iterations < iterations:
            raise InputError(
                f"tuning_iterations: expected 0 <= tuning_iterations < iterations, "
                f"found {tuning_iterations} of {iterations}."
            )
        if not (0 < boundary_share < 1 and boundary_weight > 0):
            raise InputError(
                f"boundary_share: expected a share in (0, 1) and a boundary_weight above 0, "
                f"found {boundary_share} and {boundary_weight}."
            )
        if intermediate and min(intermediate) < boundary:
            raise InputError(
                f"intermediate: expected levels of at least the boundary {boundary}, below which "
                f"the student is not trained, found {min(intermediate)}."
            )
        self.tuning_iterations = tuning_iterations
        self.truncated_law = truncated_law or LogStudentNoise(boundary, self.student.sigma_max)
        self.truncation = boundary
        self.boundary_share = boundary_share
        self.boundary_weight = boundary_weight
        # f_0, filled when the first stage ends. Blank until then: a checkpoint holds no teacher.
        self.full = copy.deepcopy(self.student).requires_grad_(False).eval()
        if tuning_iterations:
            for parameter in self.full.parameters():
                parameter.zero_()

    @property
    def truncated(self) -> bool:
        """Whether the second stage has begun."""
        return self.iteration >= self.tuning_iterations

    def train(self, mode: bool = True) -> "TruncatedConsistency":
        super().train(mode)
        self.full.eval()
        return self

    def stage(self) -> tuple[int, int]:
        if self.truncated:
            begun = self.tuning_iterations
            return self.iteration - begun, self.iterations - begun
        return self.iteration, self.tuning_iterations

    @property
    def tuning_stage(self) -> int:
        return self.stages if self.truncated else super().tuning_stage

    def describe_stage(self) -> str:
        return f"above {self.truncation}" if self.truncated else super().describe_stage()

    def step(self, batch: Batch) -> None:
        if not self.truncated:
            super().step(batch)
            return
        x0, condition = self.prepare(batch)
        sigma = self.truncated_law(self.noise.uniform(len(x0)))
        held, agreeing = self.truncated_losses(x0, sigma, condition)
        loss = self.boundary_weight * held + agreeing
        self.optimize("student", loss)
        self.report({"boundary": held.detach(), "consistency": agreeing.detach()})

    def truncated_losses(
        self, x0: Tensor, sigma: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The boundary loss and the consistency loss (the paper's eq. 9 and 10), scalars."""
        # Rows of a batch drawn for the boundary: the share holds on average, whatever the ranks.
        at_boundary = self.noise.uniform(len(x0)) < self.boundary_share
        sigma = torch.where(at_boundary, self.truncation, sigma)
        r = tuned_level(sigma, self.tuning_stage, self.q, self.k, self.b)
        eps = self.noise.normal(x0)
        estimate, target = consistency_pair(
            self.student,
            SwitchedDenoiser(self.full, self.student, self.truncation),
            x0 + expand(sigma, x0).to(x0.dtype) * eps,
            sigma,
            x0 + expand(r, x0).to(x0.dtype) * eps,
            r,
            condition,
        )
        distance = self.distance(estimate, target)
        weight = pair_weight(sigma, r, self.weighting, self.sigma_data)
        weighted = weight.to(distance) * distance
        mask = at_boundary.to(distance)
        held = (mask * weighted).mean() / self.boundary_share
        agreeing = ((1 - mask) * weighted).mean() / (1 - self.boundary_share)
        return held, agreeing

    def after_iteration(self) -> None:
        if self.iteration != self.tuning_iterations:
            return
        self.full.load_state_dict(self.ema.module.state_dict())
        self.student.load_state_dict(self.ema.module.state_dict())
        self.ema.restart(self.student)
        self.forget_optimizer("student")
