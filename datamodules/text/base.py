"""What the data modules of tokens share: loaders, and the position in the data."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from datamodules.loader import Batch, EndlessLoader, EvaluationLoader, StreamLoader
from kdlight.metrics.base import SampleMetric


class TokenDataModule(LightningDataModule):
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
        self._train_loader: EndlessLoader | None = None
        self._resume_from: dict[str, Any] | None = None

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

    @property
    def ranks(self) -> tuple[int, int]:
        """This process's rank and the number of ranks; (0, 1) without a trainer."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> EndlessLoader:
        """Endless training batches."""
        self._train_loader = StreamLoader(
            {"tokens": self.parts[0]},
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            *self.ranks,
        )
        if self._resume_from is not None:
            self._train_loader.load_state_dict(self._resume_from)
            self._resume_from = None
        return self._train_loader

    def val_dataloader(self) -> Iterable[Batch]:
        """The held-out part in order."""
        return EvaluationLoader({"tokens": self.parts[1]}, self.batch_size, *self.ranks)

    def test_dataloader(self) -> Iterable[Batch]:
        """The held-out part in order."""
        return self.val_dataloader()

    def predict_dataloader(self) -> Iterable[Batch]:
        """The held-out part in order."""
        return self.val_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Position of the training loader; Lightning always restores a data module's state."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next training loader start where the checkpoint was written."""
        self._resume_from = state
