"""What the data modules of written text share: the split, and rows of tokens."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from rich.progress import track
from torch import Tensor

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule, split_whole, whole
from kdlight.core.memory import check_fits
from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.language.token_statistics import TokenStatistics
from kdlight.storage.documents import Document
from kdlight.storage.tokenizers import Reading, Tokenizer

Layout = Literal["packed", "padded"]


class TextDataModule(TokenDataModule):
    """Base of the data modules of text: a subclass says what its texts are.

    ``packed`` rows are cut from all texts in a row, each behind it the token that ends it (if the
    tokenizer has one); what does not fill the last row is left out. ``padded`` rows begin with a
    text, a longer one going on in the next row, and are filled up with the end (token 0 without
    one), of which the first is scored.

    Unless a subclass brings a held-out part of its own, a share of the texts is held out, chosen by
    a fixed seed; of a single text, its last part.

    Args:
        tokenizer: Turns texts into tokens.
        length: Tokens of a row L.
        layout: How rows are made.
        heldout: Share of the texts that is held out.
        scored_padding: Whether padding is scored: a masked model learns by it how long texts are.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the split does not depend on it.

    Raises:
        InputError: A number is out of range.
    """

    tokenizer: Tokenizer

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: PositiveInt,
        layout: Layout = "packed",
        heldout: float = 0.1,
        scored_padding: bool = False,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.tokenizer = tokenizer
        self.length = length
        self.vocabulary = tokenizer.size
        self.layout = layout
        self.heldout = heldout
        self.scored_padding = scored_padding

    def documents(self) -> list[Document]:
        """All texts, or those to train on where :meth:`heldout_documents` gives others."""
        raise NotImplementedError

    def heldout_documents(self) -> list[Document] | None:
        """Texts that are held out; None holds out a share of :meth:`documents`."""
        return None

    def read(self) -> tuple[Batch, Batch]:
        training, heldout = self.documents(), self.heldout_documents()
        if heldout is None:
            training, heldout = split(training, self.heldout)
        return self._rows(training, "training"), self._rows(heldout, "held-out")

    def judges(self) -> list[SampleMetric]:
        """Pairs of tokens against the held-out text, and how varied the samples are."""
        return [TokenStatistics(self.parts[1]["tokens"].long(), self.vocabulary)]

    def _rows(self, documents: Sequence[Document], part: str) -> Batch:
        check_fits("tokens", sum(len(document.text) for document in documents), ())
        shown = track(documents, f"tokens of the {part} text", transient=True)
        reading = Reading(self.tokenizer)
        texts = [np.array(reading.encode(each.text), np.int32) for each in shown]
        if lacking := reading.lacking():
            rank_zero_warn(f"{part} text: {lacking}")
        lay = _packed if self.layout == "packed" else _padded
        batch = lay(texts, self.length, self.tokenizer.end)
        if not len(batch["tokens"]):
            found = sum(len(text) + (self.tokenizer.end is not None) for text in texts)
            raise InputError(
                f"length: expected at most the tokens of the {part} text ({found}), "
                f"found {self.length}."
            )
        if self.scored_padding:
            batch["mask"] = torch.ones_like(batch["mask"])
        return batch


def split(documents: list[Document], share: float) -> tuple[list[Document], list[Document]]:
    """Texts to train on and texts to hold out, a function of the texts' number and order."""
    if len(documents) == 1:
        text, place = documents[0]
        cut = round(len(text) * (1 - share))
        return [Document(text[:cut], place)], [Document(text[cut:], place)]
    return split_whole(documents, share)


def _packed(texts: Sequence[np.ndarray], length: int, end: int | None) -> Batch:
    behind = np.array([] if end is None else [end], np.int32)
    row = np.concatenate([part for text in texts for part in (text, behind)])
    return whole(torch.from_numpy(row[: len(row) // length * length].reshape(-1, length)))


def _padded(texts: Sequence[np.ndarray], length: int, end: int | None) -> Batch:
    pieces = [text[at : at + length] for text in texts for at in range(0, len(text), length)]
    tokens = np.full((len(pieces), length), 0 if end is None else end, np.int32)
    for row, piece in enumerate(pieces):
        tokens[row, : len(piece)] = piece
    lengths = torch.tensor([len(piece) for piece in pieces], dtype=torch.int64)
    scored: Tensor = torch.arange(length) < lengths[:, None] + (end is not None)
    return {"tokens": torch.from_numpy(tokens), "mask": scored, "lengths": lengths}
