"""Tasks that only their demonstrations tell: a mapping of symbols, another one in every row."""

import torch

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule
from kdlight.core.ranges import PositiveInt


class MappingsDataModule(TokenDataModule):
    """Rows of demonstrations and questions of a random one-to-one mapping.

    A row shows every symbol with its image once, in random order, and then asks for the images of
    ``questions`` random symbols, which are scored. Symbols are tokens 0 to N - 1, their images N to
    2 N - 1. Mappings are drawn for every row, so that those of held-out rows are new.

    Args:
        symbols: Symbols N.
        questions: Questions of a row.
        shown: Whether the demonstrations are there; else random pairs of other mappings are, from
            which nothing can be learnt.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part, drawn independently.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the rows do not depend on it.
    """

    def __init__(
        self,
        symbols: PositiveInt = 8,
        questions: PositiveInt = 8,
        shown: bool = True,
        num_samples: PositiveInt = 50_000,
        num_heldout: PositiveInt = 1000,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.symbols, self.questions, self.shown = symbols, questions, shown
        self.vocabulary, self.length = 2 * symbols, 2 * (symbols + questions)
        self.counts = (num_samples, num_heldout)

    def read(self) -> tuple[Batch, Batch]:
        return self._part(0), self._part(1)

    def _part(self, part: int) -> Batch:
        count, source = self.counts[part], torch.Generator().manual_seed(part)
        order, images, others = (
            torch.rand(count, self.symbols, generator=source).argsort(dim=1) for _ in range(3)
        )
        asked = torch.randint(self.symbols, (count, self.questions), generator=source)
        told = images if self.shown else others
        symbols = torch.cat([order, asked], dim=1)
        found = torch.cat([told.gather(1, order), images.gather(1, asked)], dim=1)
        tokens = torch.stack([symbols, found + self.symbols], dim=2).flatten(1)
        place = torch.arange(self.length)
        mask = (place >= 2 * self.symbols) & (place % 2 == 1)
        return {
            "tokens": tokens,
            "mask": mask.expand(count, -1),
            "lengths": torch.tensor(self.length).expand(count),
        }
