"""Symbols to be sorted: questions whose answers depend on all of the question."""

import torch

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule
from kdlight.core.ranges import PositiveInt


class SortingDataModule(TokenDataModule):
    """Rows of ``source`` random symbols and the same symbols in order, which are scored.

    Args:
        vocabulary: Symbols.
        source: Symbols of a question; a row is twice as long.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part, drawn independently.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the rows do not depend on it.
    """

    def __init__(
        self,
        vocabulary: PositiveInt = 16,
        source: PositiveInt = 12,
        num_samples: PositiveInt = 50_000,
        num_heldout: PositiveInt = 1000,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.vocabulary, self.source, self.length = vocabulary, source, 2 * source
        self.counts = (num_samples, num_heldout)

    def read(self) -> tuple[Batch, Batch]:
        return self._part(0), self._part(1)

    def _part(self, part: int) -> Batch:
        count, source = self.counts[part], torch.Generator().manual_seed(part)
        question = torch.randint(self.vocabulary, (count, self.source), generator=source)
        tokens = torch.cat([question, question.sort(dim=1).values], dim=1)
        mask = torch.arange(self.length) >= self.source
        return {
            "tokens": tokens,
            "mask": mask.expand(count, -1),
            "lengths": torch.tensor(self.length).expand(count),
        }
