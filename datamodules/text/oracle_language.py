"""Sentences of a language whose probabilities are known."""

import torch

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule, whole
from kdlight.core.ranges import PositiveInt
from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
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
    """

    def __init__(
        self,
        language: HMMLanguage,
        num_samples: PositiveInt = 50_000,
        num_heldout: PositiveInt = 4000,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.language = language
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
        return whole(training), whole(heldout)

    def law(self) -> OracleAutoregressive:
        """The language's own."""
        return OracleAutoregressive(self.language)

    def judges(self) -> list[SampleMetric]:
        """Exact likelihood and pairs of tokens, each with its value for true sentences."""
        return [OracleFit(self.language)]
