"""Score identity distillation, SiD (Zhou et al. 2024, arXiv:2404.04057)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasNoise, NoiseLaw
from kdlight.losses.scores import ScoreIdentity, ScoreObjective
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.score_distillation import ScoreDistillationModule


class SiD(ScoreDistillationModule):
    """Descend the Fisher divergence between samples and data, through both scores.

    Needs no data: with a data module that provides noise the images are never touched.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer; the authors' Adam has betas 0 and 0.999.
        fake_optimizer: Settings of the fake score's.
        first: Noise level that the student takes its input for, the paper's ``sigma_init``.
        noise_law: Noise levels at which the scores are compared; null is the paper's: uniform
            along the Karras grid, its last fifth left out.
        kwargs: Of :class:`~modules.diffusion.score_distillation.ScoreDistillationModule`.
    """

    term_weights: ClassVar[Mapping[str, float]] = {"score": 1.0, "denoising": 1.0}

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        first: float | None = 2.5,
        noise_law: NoiseLaw | None = None,
        **kwargs: Any,
    ) -> None:
        if noise_law is None:
            low, high = max(teacher.denoiser.sigma_min, 0.002), teacher.denoiser.sigma_max
            noise_law = KarrasNoise(low, high, stop=0.8)
        super().__init__(
            teacher, optimizer, fake_optimizer, first=first, noise_law=noise_law, **kwargs
        )

    @staticmethod
    def default_objective() -> ScoreObjective:
        """Equation 23 with alpha 1.2."""
        return ScoreIdentity()

    def step(self, batch: Batch) -> None:
        # Algorithm 1: the fake score first, then the generator, each on samples of its own.
        noise, condition = self.latents(batch)
        with torch.no_grad():
            x = self.generate(noise, condition, batch)
        self.update_critic(batch, x, condition)
        if self.students_turn():
            self.update_student(batch, self.fresh(batch), condition)
        self.report_terms()
