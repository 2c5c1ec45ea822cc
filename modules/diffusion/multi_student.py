"""Multi-student distillation, MSD (Song et al. 2024, arXiv:2410.23274)."""

import copy
from typing import Any

import torch

from kdlight.core.ranges import Probability
from kdlight.diffusion.denoisers import Denoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.router import RoutedDenoiser
from kdlight.diffusion.students import LikeTeacher, copy_of, student_of
from kdlight.errors import InputError
from kdlight.losses.denoising import weight_of, weighted_squared_error
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.dmd2 import DMD2


class MultiStudent(DMD2):
    """DMD2 with a student for each part of the classes.

    The students are one generator to everything else: a router asks the one that knows the class.
    Where the paper trains each in a run and with a fake score of its own, they share a batch and a
    fake score here: it is told the class, and so is for each student the score of its samples.
    Students that are no copies of the teacher start with teacher score matching, a first stage in
    which they learn to denoise data as the teacher does, at all levels of ``noise_law``: a student
    that generates is asked at a large one. With one part and no first stage it is DMD2.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the students' optimizer; its schedule spans each stage.
        fake_optimizer: Settings of the critic's.
        partition: The classes of each student: every class once.
        student: One student, or how it differs from the teacher, copied for each part; null copies
            the teacher's network.
        matching_iterations: Batches of the first stage.
        dropout: Dropout of the copied networks; null leaves the teacher's.
        kwargs: Of :class:`~modules.diffusion.dmd2.DMD2`.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        partition: list[list[int]],
        student: Denoiser | LikeTeacher | None = None,
        matching_iterations: int = 0,
        dropout: Probability | None = 0.0,
        **kwargs: Any,
    ) -> None:
        one = student_of(student, teacher, dropout, copy_of)
        router = RoutedDenoiser([copy.deepcopy(one) for _ in partition], partition)
        super().__init__(
            teacher, optimizer, fake_optimizer, student=router, dropout=dropout, **kwargs
        )
        if not 0 <= matching_iterations < self.iterations:
            raise InputError(
                f"matching_iterations: expected at least 0 and less than {self.iterations}, "
                f"found {matching_iterations}."
            )
        self.matching = matching_iterations

    def stage(self) -> tuple[int, int]:
        if self.iteration < self.matching:
            return self.iteration, self.matching
        return self.iteration - self.matching, self.iterations - self.matching

    def describe_stage(self) -> str:
        return "score matching" if self.iteration < self.matching else "training"

    def step(self, batch: Batch) -> None:
        if self.iteration >= self.matching:
            super().step(batch)
            return
        condition = self.asked(batch)
        noisy, sigma = self.noised(self.images(batch), self.noise_law)
        with torch.no_grad():
            target = self.real(noisy, sigma, condition)
        weight = weight_of(sigma, self.fake_weighting, self.sigma_data)
        loss = weighted_squared_error(self.student(noisy, sigma, condition), target, weight)
        self.optimize("student", loss)
        self.report({"matching": loss.detach()})

    def after_iteration(self) -> None:
        if self.iteration == self.matching:
            self.ema.restart(self.student)
            self.forget_optimizer("student")
