"""Diff-Instruct (Luo et al. 2023, arXiv:2305.18455)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import LogNormalNoise, NoiseLaw
from kdlight.losses.scores import IntegralKL, ScoreObjective
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.score_distillation import ScoreDistillationModule


class DiffInstruct(ScoreDistillationModule):
    """Descend the KL divergence between samples and data, integrated over noise levels.

    Needs no data: with a data module that provides noise the images are never touched.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer; the paper's Adam has betas 0 and 0.999.
        fake_optimizer: Settings of the fake score's.
        noise_law: Noise levels at which the scores are compared; null is EDM's training law.
        kwargs: Of :class:`~modules.diffusion.score_distillation.ScoreDistillationModule`. The
            authors' code has ``first`` 1 on CIFAR-10, where the student copies the teacher.
    """

    term_weights: ClassVar[Mapping[str, float]] = {"score": 1.0, "denoising": 1.0}

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        noise_law: NoiseLaw | None = None,
        **kwargs: Any,
    ) -> None:
        noise_law = noise_law or LogNormalNoise()
        super().__init__(teacher, optimizer, fake_optimizer, noise_law=noise_law, **kwargs)

    @staticmethod
    def default_objective() -> ScoreObjective:
        """``D_fake - D_real``."""
        return IntegralKL()

    def step(self, batch: Batch) -> None:
        # Algorithm 1: the fake score first, then the generator, each on samples of its own.
        noise, condition = self.latents(batch)
        with torch.no_grad():
            x = self.generate(noise, condition, batch)
        self.update_critic(batch, x, condition)
        if self.students_turn():
            self.update_student(batch, self.fresh(batch), condition)
        self.report_terms()
