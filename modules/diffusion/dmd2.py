"""Improved distribution matching distillation, DMD2 (Yin et al. 2024, arXiv:2405.14867)."""

from typing import Any

import torch

from kdlight.diffusion.generator import Generator
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.score_distillation import ScoreDistillationModule


class DMD2(ScoreDistillationModule):
    """DMD without its regression: a critic that is updated more often, and a GAN.

    ===================  ======================================================================
    paper                argument
    ===================  ======================================================================
    two time scales      ``student_every: 5``
    GAN loss             ``discriminator``, a head on the fake score's activations
    multi-step student   ``intermediate``, trained on its own walks (``backward_simulation``)
    ===================  ======================================================================

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the critic's.
        student_every: Updates of the critic for one of the student.
        kwargs: Of :class:`~modules.diffusion.score_distillation.ScoreDistillationModule`.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        student_every: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(teacher, optimizer, fake_optimizer, student_every=student_every, **kwargs)

    def step(self, batch: Batch) -> None:
        noise, condition = self.latents(batch)
        if self.students_turn():
            x = self.update_student(batch, noise, condition)
        else:
            with torch.no_grad():
                x = self.generate(noise, condition, batch)
        self.update_critic(batch, x, condition)
        self.report_terms()
