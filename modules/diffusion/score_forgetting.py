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
    before, without data. With a class in its own place it is SiD.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the fake score's.
        forget: For each class to be forgotten: the class in its place.
        kwargs: Of :class:`~modules.diffusion.sid.SiD`. The samples of forgotten classes have a term
            of their own, ``forgetting``.

    Raises:
        InputError: A class does not exist.
    """

    term_weights: ClassVar[Mapping[str, float]] = {
        "score": 1.0,
        "forgetting": 1.0,
        "denoising": 1.0,
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

    def student_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        loss = self.score(x, condition)
        forgotten = self.forgotten[condition["label"]].to(loss)
        return {
            "score": ((1 - forgotten) * loss).mean(),
            "forgetting": (forgotten * loss).mean(),
        }
