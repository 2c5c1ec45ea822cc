"""What the data modules of tokens share: sequences of one length, and their loaders."""

from collections.abc import Iterable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from datamodules.base import EndlessDataModule
from datamodules.loader import Batch, EndlessLoader, EvaluationLoader, StreamLoader
from datamodules.order import permutation
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.metrics.base import SampleMetric
from kdlight.storage.tokenizers import Tokenizer

Item = TypeVar("Item")


def whole(tokens: Tensor) -> Batch:
    """A part of the data whose sequences (N, L) are full and scored everywhere."""
    count, length = tokens.shape
    return {
        "tokens": tokens,
        # One row for all, and one number, as views: nothing of the size of the data.
        "mask": torch.ones(1, length, dtype=torch.bool).expand(count, length),
        "lengths": torch.tensor(length).expand(count),
    }


def split_whole(items: list[Item], share: float) -> tuple[list[Item], list[Item]]:
    """Items to train on and items to hold out, at least one each, chosen by a fixed seed.

    Args:
        items: At least two.
        share: Of those that are held out.
    """
    count = min(max(round(share * len(items)), 1), len(items) - 1)
    held = set(permutation(len(items), 0, 0)[:count].tolist())
    training = [each for number, each in enumerate(items) if number not in held]
    return training, [each for number, each in enumerate(items) if number in held]


class TokenDataModule(EndlessDataModule):
    """Base of the data modules of sequences of one length.

    Batches are ``{"tokens": (B, L) int64, "mask": (B, L) bool, "lengths": (B,) int64}``: ``mask``
    says what is scored, ``lengths`` how much of a row is no padding.

    Args:
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    vocabulary: int
    """Tokens V."""
    length: int
    """Tokens of a sequence L."""
    tokenizer: Tokenizer | None = None
    """What turns text into these tokens; None where they are no text."""

    def __init__(
        self, batch_size: PositiveInt, steps_per_epoch: PositiveInt, seed: NonNegativeInt
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed

    def read(self) -> tuple[Batch, Batch]:
        """Training and held-out sequences, as one batch each."""
        raise NotImplementedError

    def judges(self) -> list[SampleMetric]:
        """Metrics that only these data offer; their ``update`` takes sampled tokens (B, L)."""
        return []

    def law(self) -> NextTokenModel | None:
        """The exact law of every next token of these data, where it is known."""
        return None

    @cached_property
    def parts(self) -> tuple[Batch, Batch]:
        """The data, read once."""
        return self.read()

    def setup(self, stage: str | None = None) -> None:
        """Read the data before training starts, so that bad data stop a run at once."""
        _ = self.parts

    def make_train_loader(self) -> EndlessLoader:
        """A training loader that starts at the beginning."""
        return StreamLoader(
            self.parts[0], self.batch_size, self.steps_per_epoch, self.seed, *self.ranks
        )

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part in order."""
        return EvaluationLoader(self.parts[1], self.batch_size, *self.ranks)
