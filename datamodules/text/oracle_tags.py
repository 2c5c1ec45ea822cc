"""Texts of a language whose hidden states are known: which state did each token come from?"""

import torch
from torch import Tensor, nn

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule
from kdlight.core.ranges import PositiveInt
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


class StatePosterior(nn.Module):
    """The exact probability of every hidden state given a text.

    Args:
        language: The language.
    """

    def __init__(self, language: HMMLanguage) -> None:
        super().__init__()
        self.language = language

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Log p(state_l | text), (B, L, S) float64.

        Args:
            tokens: (B, L) int64.
            mask: Tokens that are no padding, (B, L) bool; others are not read.
        """
        read = torch.where(mask, tokens, self.language.mask)
        return self.language.state_posteriors(read).log()


class OracleTagsDataModule(TokenDataModule):
    """Ragged draws of a hidden Markov language, with the states as ``label`` (B, L) int64.

    How well the best tagger does is the language's choice: with sparse emissions a token tells its
    state, with even ones its neighbours have to. Labels of padding are 0 and count nowhere.

    Args:
        language: The language.
        shortest: Least tokens of a text; lengths are even from there to the language's.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part, drawn independently.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the texts do not depend on it.

    Raises:
        InputError: A number is out of range.
    """

    per_token = True
    """Labels are of tokens, not of texts."""

    def __init__(
        self,
        language: HMMLanguage,
        shortest: int = 4,
        num_samples: PositiveInt = 20_000,
        num_heldout: PositiveInt = 4000,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not 1 <= shortest <= language.length:
            raise InputError(f"shortest: expected 1 to {language.length}, found {shortest}.")
        self.language, self.shortest = language, shortest
        self.num_samples = num_samples
        self.num_heldout = num_heldout
        self.vocabulary, self.length = language.vocabulary, language.length
        self.classes = len(language.transitions)

    def posterior(self) -> StatePosterior:
        """The best tagger."""
        return StatePosterior(self.language)

    def read(self) -> tuple[Batch, Batch]:
        return self._part(self.num_samples, 0), self._part(self.num_heldout, 1)

    def _part(self, count: int, part: int) -> Batch:
        generator = torch.Generator().manual_seed(part)
        lengths = torch.randint(self.shortest, self.length + 1, (count,), generator=generator)
        tokens, states = self.language.draw_with_states(count, generator)
        mask = torch.arange(self.length) < lengths[:, None]
        return {
            "tokens": tokens.masked_fill(~mask, 0),
            "mask": mask,
            "lengths": lengths,
            "label": states.masked_fill(~mask, 0),
        }
