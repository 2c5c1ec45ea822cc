"""Pairs of noise and the sentence that a teacher's deterministic map makes of it."""

from collections.abc import Iterable
from typing import Literal

import torch

from datamodules.loader import Batch
from datamodules.order import positive
from datamodules.text.base import TokenDataModule
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.token_flow import TokenCodes
from kdlight.metrics.base import SampleMetric
from kdlight.teachers.token_pairs import TokenPairs


class TokenPairsDataModule(TokenDataModule):
    """A teacher's own sentences: ``{"noise": (B, L, d), "tokens": (B, L)}``.

    Missing pairs are made before training starts, by the first process, in parts: a run that was
    stopped meanwhile goes on with the part it was at. They are held in memory.

    Args:
        teacher: Who makes them: the model's teacher, which writes from left to right.
        codes: The tokens' codes; the student's.
        reference: The data that samples are judged by.
        count: Number of pairs.
        flow_steps: Solver steps of the flow from noise to a token.
        folder: Where pairs are kept.
        pairs_seed: Seed of their noise; runs over seeds share them.
        device: Where they are made.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: The teacher cannot make such pairs.
    """

    def __init__(
        self,
        teacher: TokenGenerator,
        codes: TokenCodes,
        reference: TokenDataModule,
        count: int = 24_000,
        flow_steps: int = 20,
        folder: str = "data/token_pairs",
        pairs_seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        positive("count", count)
        self.pairs = TokenPairs(teacher, codes, count, flow_steps, pairs_seed, folder)
        self.reference = reference
        self.device = device
        self.vocabulary, self.length = teacher.vocabulary, teacher.length

    def prepare_data(self) -> None:
        """Make missing pairs, in one process, while the others wait."""
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pairs.make(device if self.device == "auto" else self.device)
        self.pairs.teacher.to("cpu")
        self.pairs.codes.to("cpu")

    def setup(self, stage: str | None = None) -> None:
        """Read the pairs before training starts, so that bad ones stop a run at once."""
        if stage in (None, "fit"):
            _ = self.parts

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part of the reference."""
        return self.reference.heldout_dataloader()

    def read(self) -> tuple[Batch, Batch]:
        """Pairs, and the held-out part of the reference."""
        return self.pairs.read(), self.reference.parts[1]

    def judges(self) -> list[SampleMetric]:
        """Those of the reference."""
        return self.reference.judges()
