"""Sentences of a known language among rows that are worth nothing."""

import torch
from torch import Tensor

from datamodules.loader import Batch
from datamodules.text.base import whole
from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


class PollutedLanguageDataModule(OracleLanguageDataModule):
    """A corpus such as the web gives: true sentences, noise, and repeats.

    Noise is a row of uniform tokens, a repeat is one token all along. Held out are true sentences
    alone; which row is what follows from its number (:meth:`kinds`).

    Args:
        language: The language.
        noise: Share of the training rows that are noise.
        repeats: Share of the training rows that are repeats.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the rows do not depend on it.

    Raises:
        InputError: The shares are none, or leave no true sentence.
    """

    def __init__(
        self,
        language: HMMLanguage,
        noise: float = 0.25,
        repeats: float = 0.25,
        num_samples: int = 50_000,
        num_heldout: int = 4000,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(language, num_samples, num_heldout, batch_size, steps_per_epoch, seed)
        if min(noise, repeats) < 0 or not noise + repeats < 1:
            raise InputError(
                "noise, repeats: expected shares of at least 0 that leave some true sentences, "
                f"found {noise} and {repeats}."
            )
        self.noise, self.repeats = noise, repeats

    def kinds(self) -> Tensor:
        """0 for a true sentence, 1 for noise, 2 for a repeat, (N,) int64, in a shuffled order."""
        counts = [round(share * self.num_samples) for share in (self.noise, self.repeats)]
        kinds = torch.tensor([1] * counts[0] + [2] * counts[1])
        kinds = torch.nn.functional.pad(kinds, (0, self.num_samples - len(kinds)))
        return kinds[torch.randperm(len(kinds), generator=torch.Generator().manual_seed(2))]

    def read(self) -> tuple[Batch, Batch]:
        training, heldout = super().read()
        tokens, kinds = training["tokens"], self.kinds()
        drawn = torch.randint(
            0, self.vocabulary, tokens.shape, generator=torch.Generator().manual_seed(3)
        )
        tokens = torch.where(kinds[:, None] == 1, drawn, tokens)
        tokens = torch.where(kinds[:, None] == 2, drawn[:, :1].expand_as(tokens), tokens)
        return whole(tokens), heldout
