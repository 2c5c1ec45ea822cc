"""Distribution backtracking, DisBack (Zhang et al. 2024, arXiv:2408.15991)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.dmd2 import DMD2


class DisBack(DMD2):
    """Record how the teacher degrades into the student, then lead the student back along that way.

    First the fake score, a copy of the teacher, learns to denoise what the untrained student
    makes; on its way ``path_length`` snapshots of it are kept. Then the student is drawn to the
    snapshots in reverse order, each near to where it is, and to the teacher in the end. Without a
    path it is DMD2, with ``objective`` any other.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer; its schedule spans the second stage.
        fake_optimizer: Settings of the critic's; its schedule spans each stage.
        degradation_iterations: Batches of the first stage.
        backtracking_iterations: Batches, the first of the second stage, that are shared by the
            snapshots; the teacher has the rest.
        path_length: Number of snapshots, evenly spread over the first stage.
        kwargs: Of :class:`~modules.diffusion.dmd2.DMD2`.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        degradation_iterations: int = 1000,
        backtracking_iterations: int = 1000,
        path_length: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(teacher, optimizer, fake_optimizer, **kwargs)
        total = degradation_iterations + backtracking_iterations
        if path_length < 0 or total >= self.iterations:
            raise InputError(
                f"degradation_iterations: expected path_length >= 0 and both stages within "
                f"{self.iterations} iterations, found {path_length} and {total}."
            )
        if not path_length <= degradation_iterations or (path_length == 0) != (total == 0):
            raise InputError(
                f"path_length: expected a first stage of at least a batch for each snapshot, and "
                f"no stages without snapshots, found {path_length} snapshots of "
                f"{degradation_iterations} batches, and {backtracking_iterations} batches for them."
            )
        self.degradation, self.backtracking = degradation_iterations, backtracking_iterations
        self.path = nn.ModuleList(
            copy.deepcopy(self.fake_score).requires_grad_(False) for _ in range(path_length)
        )
        self.train()

    def train(self, mode: bool = True) -> "DisBack":
        super().train(mode)
        self.path.eval()
        return self

    def stage(self) -> tuple[int, int]:
        if self.iteration < self.degradation:
            return self.iteration, self.degradation
        return self.iteration - self.degradation, self.iterations - self.degradation

    def describe_stage(self) -> str:
        if self.iteration < self.degradation:
            return "degradation"
        position, _ = self.stage()
        return "backtracking" if position < self.backtracking else "training"

    def step(self, batch: Batch) -> None:
        if self.iteration >= self.degradation:
            super().step(batch)
            return
        noise, condition = self.latents(batch)
        with torch.no_grad():
            x = self.generate(noise, condition, batch)
            noisy, sigma = self.noised(x, self.fake_noise_law)
        estimate = self.fake_score(noisy, sigma, condition)
        loss = self.denoising(estimate, x, sigma).mean()
        self.optimize("critic", loss)
        self.report({"degradation": loss.detach()})

    def after_iteration(self) -> None:
        recorded = len(self.path) + 1
        for index, snapshot in enumerate(self.path):
            if self.iteration == (index + 1) * self.degradation // recorded:
                snapshot.load_state_dict(self.fake_score.state_dict())

    def real(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The snapshot whose turn it is, the last first, and after all of them the teacher."""
        position, _ = self.stage()
        if position >= self.backtracking:
            return super().real(x, sigma, condition)
        passed = position * len(self.path) // self.backtracking
        estimate: Tensor = self.path[-1 - passed](x, sigma, condition)
        return estimate
