"""Easy consistency tuning, ECT (Geng et al. 2024, arXiv:2406.14548)."""

from typing import ClassVar

from torch import Tensor

from kdlight.core.ranges import Probability
from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import LogNormalNoise, NoiseLaw
from kdlight.diffusion.students import LikeTeacher, copy_of, student_of
from kdlight.errors import InputError
from kdlight.losses.consistency import PairWeight, consistency_pair, pair_weight, tuned_level
from kdlight.losses.distances import Distance, PseudoHuber
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class ConsistencyTuning(FewStepModule):
    """Turn a diffusion model into a consistency model by training it on, from data alone.

    A diffusion model is a consistency model whose lower level is 0; stage by stage the lower level
    of a pair moves up to the upper one.

    Args:
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        teacher: The diffusion model to start from and to compare with; it teaches by its weights
            alone.
        student: A student to start from instead, such as an untrained one, or how it differs from
            the teacher.
        shape: Shape of one sample, needed without a teacher.
        dropout: Dropout of the copied network; null leaves the teacher's.
        noise_law: Law of the upper level.
        stages: Number of stages, of equal length, over which the levels of a pair move together.
        q: Factor by which the relative gap shrinks from stage to stage.
        k: How much wider the gap is at small noise.
        b: Where small noise ends, in units of 1 / sigma.
        distance: Between the two estimates: the norm (c = 0) for CIFAR-10 in the paper, a
            pseudo-Huber with c = 0.06 for ImageNet.
        weighting: Weight of a pair: ``inverse_gap`` for CIFAR-10, ``edm`` for ImageNet.
        intermediate: Noise levels at which a walk of several steps goes on, falling.
        ema_half_life: Half-life of the average that samples, in updates.
        augmentation: Augmentation the student is told of.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    # The two estimates of a pair differ by less than bfloat16 rounds them.
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
        stages: int = 8,
        q: float = 2.0,
        k: float = 8.0,
        b: float = 1.0,
        distance: Distance | None = None,
        weighting: PairWeight = "inverse_gap",
        intermediate: list[float] = [0.8],  # noqa: B006 - never changed
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        if not (stages >= 1 and q > 1):
            raise InputError(
                f"stages: expected stages >= 1 and q > 1, found stages {stages} and q {q}."
            )
        super().__init__(
            student_of(student, teacher, dropout, copy_of),
            {"student": optimizer},
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
        self.noise_law = noise_law or LogNormalNoise(-1.1, 2.0)
        self.stages = stages
        self.q, self.k, self.b = q, k, b
        self.distance = distance or PseudoHuber(0.0)
        self.weighting = weighting
        self.sigma_data = float(getattr(self.student, "sigma_data", 1.0))

    @property
    def tuning_stage(self) -> int:
        """Stage of the mapping, from 1; it stays at the last."""
        position, length = self.stage()
        return min(position * self.stages // length, self.stages - 1) + 1

    def describe_stage(self) -> str:
        return f"stage {self.tuning_stage} of {self.stages}"

    def step(self, batch: Batch) -> None:
        x0, condition = self.prepare(batch)
        sigma = self.noise_law(self.noise.uniform(len(x0)))
        loss = self.consistency_loss(x0, sigma, condition)
        self.optimize("student", loss)
        self.report({"consistency": loss.detach(), "stage": self.tuning_stage})

    def consistency_loss(self, x0: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The loss (the paper's eq. 14) at upper levels ``sigma`` (B,), a scalar."""
        r = tuned_level(sigma, self.tuning_stage, self.q, self.k, self.b)
        eps = self.noise.normal(x0)
        estimate, target = consistency_pair(
            self.student,
            self.student,
            x0 + expand(sigma, x0).to(x0.dtype) * eps,
            sigma,
            x0 + expand(r, x0).to(x0.dtype) * eps,
            r,
            condition,
        )
        distance = self.distance(estimate, target)
        weight = pair_weight(sigma, r, self.weighting, self.sigma_data).to(distance)
        return (weight * distance).mean()
