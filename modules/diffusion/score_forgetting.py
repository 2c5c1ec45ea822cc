"""Score forgetting distillation, SFD (Chen et al. 2024, arXiv:2409.11219)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.sid import SiD


class ScoreForgetting(SiD):
    """SiD of a teacher that is asked for another class wherever one is to be forgotten.

    The student and its fake score keep the label they were given; the teacher's is exchanged. So
    the student learns to answer a forgotten label with the class in its place, and all others as
    before, without data. Each update sees two batches (the paper's losses of what remains and of
    what is forgotten): one of the other classes, in which a forgotten label is exchanged for any
    of them, and one as large of forgotten labels alone, at a weight of its own.

    ====================  =======  =============================================================
    term                  part     what
    ====================  =======  =============================================================
    score                 student  SiD's objective at samples of the classes that remain
    forgetting            student  the same at samples of forgotten classes
    denoising             critic   denoising score matching on samples that remain
    forgetting_denoising  critic   the same on samples of forgotten classes
    ====================  =======  =============================================================

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the fake score's.
        forget: For each class to be forgotten: the class in its place.
        kwargs: Of :class:`~modules.diffusion.sid.SiD`. The weight of both terms of forgotten
            classes is 0.01 in the authors' release, which goes on from a distilled student. From
            the teacher, the share of the forgotten among all classes is a weight that works.

    Raises:
        InputError: A class does not exist, or none remains.
    """

    term_weights: ClassVar[Mapping[str, float]] = {
        "score": 1.0,
        "forgetting": 0.01,
        "denoising": 1.0,
        "forgetting_denoising": 0.01,
    }
    override: Tensor
    forgotten: Tensor

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        forget: dict[int, int],
        **kwargs: Any,
    ) -> None:
        count = teacher.num_classes
        unknown = [label for pair in forget.items() for label in pair if not 0 <= label < count]
        if unknown or not forget:
            raise InputError(
                f"forget: expected classes of the teacher, from 0 to {count - 1}, and others in "
                f"their places, found {unknown or 'none'}."
            )
        if len(forget) == count:
            raise InputError(f"forget: expected fewer than the teacher's {count} classes.")
        super().__init__(teacher, optimizer, fake_optimizer, **kwargs)
        override = torch.arange(count)
        override[list(forget)] = torch.tensor(list(forget.values()))
        forgotten = torch.zeros(count, dtype=torch.bool)
        forgotten[list(forget)] = True
        self.register_buffer("override", override, persistent=False)
        self.register_buffer("forgotten", forgotten, persistent=False)

    def real(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        told = condition | {"label": self.override[condition["label"]]}
        return super().real(x, sigma, told)

    def asked(self, batch: Batch) -> Condition:
        label = batch["label"]
        return {"label": torch.where(self.forgotten[label], self._drawn(batch, False), label)}

    def _drawn(self, batch: Batch, forgotten: bool) -> Tensor:
        """Labels (B,), each any of the forgotten classes, or any of the others."""
        classes = (self.forgotten == forgotten).nonzero()[:, 0]
        return classes[self.noise.integers(len(batch["label"]), len(classes))]

    def _to_be_forgotten(self, batch: Batch) -> tuple[Tensor, Condition]:
        """Samples of forgotten classes, as many as the batch has, and what they were asked for."""
        condition = {"label": self._drawn(batch, True)}
        return self.generate(self.fresh(batch), condition, batch), condition

    def student_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        terms = super().student_terms(batch, x, condition)
        y, asked = self._to_be_forgotten(batch)
        return terms | {"forgetting": self.score(y, asked).mean()}

    def critic_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        terms = super().critic_terms(batch, x, condition)
        with torch.no_grad():
            y, asked = self._to_be_forgotten(batch)
        noisy, sigma = self.noised(y, self.fake_noise_law)
        estimate = self.fake_score(noisy, sigma, asked)
        return terms | {"forgetting_denoising": self.denoising(estimate, y, sigma).mean()}
