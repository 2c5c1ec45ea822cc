"""What the data modules of tokens share: sequences of one length, and their loaders."""

from collections.abc import Iterable
from functools import cached_property

from torch import Tensor

from datamodules.base import EndlessDataModule
from datamodules.loader import Batch, EndlessLoader, EvaluationLoader, StreamLoader
from kdlight.metrics.base import SampleMetric


class TokenDataModule(EndlessDataModule):
    """Base of the data modules of sequences of one length: ``{"tokens": (B, L) int64}``.

    Args:
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    vocabulary: int
    """Tokens V."""
    length: int
    """Tokens of a sequence L."""

    def __init__(self, batch_size: int, steps_per_epoch: int, seed: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed

    def read(self) -> tuple[Tensor, Tensor]:
        """Training and held-out sequences, (N, L) and (M, L)."""
        raise NotImplementedError

    def judges(self) -> list[SampleMetric]:
        """Metrics that only these data offer; their ``update`` takes sampled tokens (B, L)."""
        return []

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        """The data, read once."""
        return self.read()

    def setup(self, stage: str | None = None) -> None:
        """Read the data before training starts, so that bad data stop a run at once."""
        _ = self.parts

    def make_train_loader(self) -> EndlessLoader:
        """A training loader that starts at the beginning."""
        tokens = {"tokens": self.parts[0]}
        return StreamLoader(tokens, self.batch_size, self.steps_per_epoch, self.seed, *self.ranks)

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part in order."""
        return EvaluationLoader({"tokens": self.parts[1]}, self.batch_size, *self.ranks)
