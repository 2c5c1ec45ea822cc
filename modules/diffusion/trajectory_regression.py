"""Regression onto whole trajectories (Luhman & Luhman 2021, arXiv:2101.02388): the baseline."""

import torch
from torch import Tensor

from kdlight.core.ranges import Probability
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.students import LikeTeacher, copy_of, student_of
from kdlight.errors import InputError
from kdlight.losses.distances import Distance, SquaredL2
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class TrajectoryRegression(FewStepModule):
    """Regress, in one step, onto what the teacher's ODE makes of the same noise.

    Args:
        teacher: The model to distil, which made the pairs of the data
            (:class:`datamodules.images.pairs.PairsDataModule`).
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        distance: Between the student's sample and the teacher's; the paper's is squared.
        student: A student of another shape, or how it differs from the teacher; null copies the
            teacher's network.
        dropout: Dropout of the copied network; null leaves the teacher's.
        ema_half_life: Half-life of the average that samples, in updates.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        iterations: int = 10_000,
        distance: Distance | None = None,
        student: Denoiser | LikeTeacher | None = None,
        dropout: Probability | None = 0.0,
        ema_half_life: float = 500.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            student_of(student, teacher, dropout, copy_of),
            {"student": optimizer},
            iterations,
            teacher=teacher,
            ema_half_life=ema_half_life,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.distance = distance or SquaredL2()

    def prepare(self, batch: Batch) -> tuple[Tensor, Condition]:
        """Unit noise of the pairs, (B, ...), and what they are conditioned on."""
        if "noise" not in batch or "image" not in batch:
            raise InputError(
                "data: expected pairs of noise and image "
                f"(datamodules.images.pairs.PairsDataModule), found batches of {', '.join(batch)}."
            )
        return batch["noise"], self.condition_of(batch)

    def step(self, batch: Batch) -> None:
        noise, condition = self.prepare(batch)
        sigma = torch.full((len(noise),), self.student.sigma_max, dtype=torch.float64)
        sigma = sigma.to(noise.device)
        x0 = self.student(self.student.prior(noise, sigma), sigma, condition)
        loss = self.distance(x0, batch["image"]).mean()
        self.optimize("student", loss)
        self.report({"regression": loss.detach()})
