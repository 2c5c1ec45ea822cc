"""Few texts with labels, others to validate on, and a teacher's that come later."""

from functools import cached_property

import torch
from torch import Tensor

from datamodules.loader import Batch
from datamodules.text.oracle_classes import OracleClassesDataModule
from kdlight.core.ranges import PositiveInt
from kdlight.discrete.oracle import HMMLanguage


class FewLabelsDataModule(OracleClassesDataModule):
    """Hidden Markov languages as classes, a few texts of each.

    Three parts that share no text: what is trained on, what a teacher is told about
    (:attr:`validation`), and what is held out, which no request may speak of. In all of them the
    classes are equally common, so that accuracy is the mean over classes.

    Args:
        language: The first class; the others have the seeds behind its.
        classes: Number of languages.
        labels: Texts of a class to train on.
        validated: Texts of a class to validate on.
        shortest: Least tokens of a text; lengths are even from there to the language's.
        num_heldout: Size of the held-out part.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the texts do not depend on it.
    """

    def __init__(
        self,
        language: HMMLanguage,
        classes: int = 4,
        labels: PositiveInt = 5,
        validated: PositiveInt = 5,
        shortest: int = 4,
        num_heldout: PositiveInt = 3000,
        batch_size: int = 32,
        steps_per_epoch: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(
            language,
            classes,
            shortest,
            labels * classes,
            num_heldout,
            batch_size,
            steps_per_epoch,
            seed,
        )
        self.validated = validated

    @cached_property
    def validation(self) -> Batch:
        """Texts whose mistakes a teacher is told about: tokens, mask and label."""
        return self._part(self.validated * self.classes, 2)

    def rows_of(self, texts: list[list[int]]) -> Batch:
        """Texts of a teacher as rows: tokens and mask, (N, L)."""
        tokens = torch.zeros(len(texts), self.length, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text[: self.length])
        lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
        return {"tokens": tokens, "mask": torch.arange(self.length) < lengths[:, None]}

    def _labels(self, count: int, source: torch.Generator) -> Tensor:
        return torch.arange(count) % self.classes
