"""Distribution matching distillation, DMD (Yin et al. 2023, arXiv:2311.18828)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.losses.distances import Distance, SquaredL2
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.score_distillation import ScoreDistillationModule


class DMD(ScoreDistillationModule):
    """Match the distribution, and regress onto pairs of noise and the teacher's own samples.

    The pairs come with the batch (:class:`datamodules.images.pairs.PairsDataModule`): they hold the
    generator to all modes, which the distribution's gradient alone may leave. In each batch half
    of the samples are made from fresh noise, for that gradient, half from the noise of the pairs.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the fake score's.
        distance: Of the regression. The paper's is LPIPS, here
            :class:`~kdlight.losses.distances.FeatureDistance`.
        kwargs: Of :class:`~modules.diffusion.score_distillation.ScoreDistillationModule`.
    """

    term_weights: ClassVar[Mapping[str, float]] = {
        "score": 1.0,
        "regression": 0.25,
        "denoising": 1.0,
    }

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        distance: Distance | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(teacher, optimizer, fake_optimizer, **kwargs)
        self.distance = distance or SquaredL2()

    def latents(self, batch: Batch) -> tuple[Tensor, Condition]:
        """Fresh noise, then that of the pairs: (2B, ...)."""
        if "noise" not in batch or "image" not in batch:
            raise InputError(
                "data: expected pairs of noise and image "
                f"(datamodules.images.pairs.PairsDataModule), found batches of {', '.join(batch)}."
            )
        condition = {name: torch.cat([given, given]) for name, given in self.asked(batch).items()}
        return torch.cat([self.fresh(batch), batch["noise"]]), condition

    def step(self, batch: Batch) -> None:
        # Algorithm 1: the generator, then the fake score on the same samples.
        noise, condition = self.latents(batch)
        if self.students_turn():
            x = self.update_student(batch, noise, condition)
        else:
            with torch.no_grad():
                x = self.generate(noise, condition, batch)
        fresh = slice(len(x) // 2)
        self.update_critic(batch, x[fresh], self.asked(batch))
        self.report_terms()

    def student_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        (fresh, paired), asked = x.chunk(2), self.asked(batch)
        terms = super().student_terms(batch, fresh, asked)
        return terms | {"regression": self.distance(paired, batch["image"]).mean()}
