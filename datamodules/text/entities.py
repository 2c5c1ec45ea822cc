"""Texts without labels to ask a teacher about, and held-out texts whose entities are known."""

from functools import cached_property

import torch

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule
from kdlight.discrete.entities import ALPHABET, EntityLanguage
from kdlight.selection.spans import Span, aligned
from kdlight.storage.tokenizers import CharacterTokenizer


class EntityDataModule(TokenDataModule):
    """A pool of texts of an :class:`~kdlight.discrete.entities.EntityLanguage`.

    Tokens are characters; rows are filled up with the token behind a text. The names in held-out
    texts are others than those in the pool.

    Args:
        language: The language.
        length: Characters of a row; what is longer is cut.
        num_samples: Texts of the pool, of which those that are the same are one.
        num_heldout: Held-out texts.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the texts do not depend on it.
    """

    def __init__(
        self,
        language: EntityLanguage,
        length: int = 36,
        num_samples: int = 2000,
        num_heldout: int = 500,
        batch_size: int = 32,
        steps_per_epoch: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.language = language
        self.tokenizer = CharacterTokenizer(ALPHABET)
        self.length, self.vocabulary = length, self.tokenizer.size
        self.counts = (num_samples, num_heldout)

    @cached_property
    def pool(self) -> list[str]:
        """The texts that a teacher may be asked about, each once."""
        return list(dict.fromkeys(self._texts(0)))

    @cached_property
    def heldout_texts(self) -> list[str]:
        """The held-out texts."""
        return self._texts(1)

    def gold(self, text: str) -> list[Span]:
        """The entities of a text."""
        return aligned(text, self.language.entities(text))

    def rows_of(self, texts: list[str]) -> Batch:
        """Texts as rows: tokens (N, L), which are scored (N, L), and lengths (N,)."""
        assert self.tokenizer is not None
        tokens = torch.full((len(texts), self.length), int(self.tokenizer.end or 0))
        for row, text in enumerate(texts):
            ids = torch.tensor(self.tokenizer.encode(text[: self.length]))
            tokens[row, : len(ids)] = ids
        lengths = torch.tensor([min(len(text), self.length) for text in texts])
        mask = torch.arange(self.length) < lengths[:, None]
        return {"tokens": tokens, "mask": mask, "lengths": lengths}

    def read(self) -> tuple[Batch, Batch]:
        return self.rows_of(self.pool), self.rows_of(self.heldout_texts)

    def _texts(self, part: int) -> list[str]:
        return self.language.draw(self.counts[part], seed=part, heldout=bool(part))
