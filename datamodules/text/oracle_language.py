"""Sentences of a language whose probabilities are known."""

import torch
from torch import Tensor

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule, whole
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.language.oracle_fit import OracleFit


class OracleLanguageDataModule(TokenDataModule):
    """A fixed set of exact draws of a hidden Markov language.

    Args:
        language: The language.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part, drawn independently.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the sentences do not depend on it.
        prompt: Tokens at the start of a sentence that are given: not scored, nor written anew.

    Raises:
        InputError: A number is out of range, or the prompt leaves nothing to score.
    """

    def __init__(
        self,
        language: HMMLanguage,
        num_samples: PositiveInt = 50_000,
        num_heldout: PositiveInt = 4000,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
        prompt: NonNegativeInt = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if prompt >= language.length:
            raise InputError(
                f"prompt: expected less than the sentence's {language.length} tokens, found "
                f"{prompt}."
            )
        self.language = language
        self.prompt = prompt
        self.num_samples = num_samples
        self.num_heldout = num_heldout
        self.vocabulary = language.vocabulary
        self.length = language.length

    def read(self) -> tuple[Batch, Batch]:
        counts = (self.num_samples, self.num_heldout)
        training, heldout = (
            self.language.draw(count, torch.Generator().manual_seed(part))
            for part, count in enumerate(counts)
        )
        return self._asked(training), self._asked(heldout)

    def _asked(self, tokens: Tensor) -> Batch:
        """Sentences (N, L), scored behind the prompt."""
        scored = torch.arange(self.length) >= self.prompt
        return whole(tokens) | {"mask": scored.expand(len(tokens), -1)}

    def law(self) -> OracleAutoregressive:
        """The language's own."""
        return OracleAutoregressive(self.language)

    def judges(self) -> list[SampleMetric]:
        """Exact likelihood and pairs of tokens, each with its value for true sentences."""
        return [OracleFit(self.language)]
