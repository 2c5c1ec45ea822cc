"""Consistency training without a teacher: CT (arXiv:2303.01469) and iCT (arXiv:2310.14189)."""

from typing import ClassVar

from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.curricula import (
    Curriculum,
    DoublingCurriculum,
    IndexLaw,
    LogNormalIndex,
    TargetDecay,
)
from kdlight.diffusion.denoisers import Denoiser, expand
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.losses.consistency import PairWeight, consistency_pair, pair_weight
from kdlight.losses.distances import Distance, PseudoHuber
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class ConsistencyTraining(FewStepModule):
    """Make neighbouring points of a noising path agree, the path drawn from data alone.

    Song et al. 2023 (CT) and Song & Dhariwal 2023 (iCT) are two settings of the same algorithm;
    the defaults are iCT's:

    ============  ==========================================  =================================
    argument      CT                                          iCT
    ============  ==========================================  =================================
    curriculum    SquareRootCurriculum, s0 2, s1 150          DoublingCurriculum, s0 10, s1 1280
    index_law     UniformIndex                                LogNormalIndex, -1.1, 2.0
    distance      LPIPS, SquaredL2 or L1                      PseudoHuber
    weighting     constant                                    inverse_gap
    target_decay  AdaptiveDecay, s0 2, mu0 0.9                null: the student itself
    ============  ==========================================  =================================

    Args:
        student: The denoiser to train, the identity at its ``sigma_min``.
        shape: Shape of one sample, such as (1, 8, 8).
        optimizer: Settings of its optimizer.
        iterations: Training batches, over which the curriculum runs.
        curriculum: Number of noise levels over the run.
        index_law: Which pair of neighbouring levels is drawn.
        distance: Between the two estimates.
        weighting: Weight of a pair.
        target_decay: Decay of the average the student regresses onto; null for none.
        rho: Curvature of the Karras grid of levels.
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
        student: Denoiser,
        shape: list[int],
        optimizer: Optimization,
        iterations: int = 10_000,
        curriculum: Curriculum | None = None,
        index_law: IndexLaw | None = None,
        distance: Distance | None = None,
        weighting: PairWeight = "inverse_gap",
        target_decay: TargetDecay | None = None,
        rho: float = 7.0,
        intermediate: list[float] = [0.8],  # noqa: B006 - never changed
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            student,
            {"student": optimizer},
            iterations,
            shape=shape,
            intermediate=intermediate,
            ema_half_life=ema_half_life,
            augmentation=augmentation,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.grid = KarrasGrid(student.sigma_min, student.sigma_max, rho)
        self.curriculum = curriculum or DoublingCurriculum()
        self.index_law = index_law or LogNormalIndex()
        self.distance = distance or PseudoHuber()
        self.weighting = weighting
        self.target_decay = target_decay
        self.target = None if target_decay is None else EMA(student, 0.0, 0.0, evaluation=False)
        if self.target is not None:
            self.average("student", self.target)

    def describe_stage(self) -> str:
        return f"{self.curriculum.levels(self.iteration, self.iterations)} noise levels"

    def step(self, batch: Batch) -> None:
        # Algorithm 3 of CT, with the choices of iCT's table 1.
        x0, condition = self.prepare(batch)
        count = self.curriculum.levels(self.iteration, self.iterations)
        levels = self.grid.sigmas(count)[:-1].flip(0).to(x0.device)
        index = self.index_law(levels, self.noise.uniform(len(x0)))
        sigma_below, sigma = levels[index], levels[index + 1]
        eps = self.noise.normal(x0)
        estimate, target = consistency_pair(
            self.student,
            self.student if self.target is None else self.target.module,
            x0 + expand(sigma, x0).to(x0.dtype) * eps,
            sigma,
            x0 + expand(sigma_below, x0).to(x0.dtype) * eps,
            sigma_below,
            condition,
        )
        distance = self.distance(estimate, target)
        weight = pair_weight(sigma, sigma_below, self.weighting).to(distance)
        loss = (weight * distance).mean()
        if self.target is not None and self.target_decay is not None:
            self.target.follow(self.target_decay.decay(count))
        self.optimize("student", loss)
        self.report({"consistency": loss.detach(), "levels": count})
