"""Sequences that teachers wrote: what sequence-level distillation trains on."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from datamodules.loader import Batch, EvaluationLoader
from datamodules.text.base import TokenDataModule
from kdlight.core.ranges import NonNegativeInt
from kdlight.discrete.autoregressive import NextTokenModel, left_to_right
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric

ROWS = 1000
"""Rows of one call of a teacher."""


class WrittenDataModule(TokenDataModule):
    """Other data whose training part teachers write anew; what is held out stays as it is.

    SeqKD (Kim and Rush, arXiv:1606.07947): a student of ``LanguageTraining`` then learns by the
    likelihood of what a teacher wrote, as a student of a model behind an interface has to. The
    paper takes the likeliest sequence by beam search; here they are drawn at temperature 1. Row i
    is by writer i modulo their number. Written are the scored places, so prompts stay; sequences
    fill their rows, as no end is looked for. Every process writes all rows, before training starts.

    Args:
        data: The data.
        writers: Models of the data's tokens.
        writing: Seed of what is written; the seed of the order is that of ``data``.

    Raises:
        InputError: There is no writer, or one has other tokens than the data.
    """

    def __init__(
        self, data: TokenDataModule, writers: Sequence[nn.Module], writing: NonNegativeInt = 0
    ) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data.seed)
        if not writers:
            raise InputError("writers: expected at least one, found none.")
        for writer in writers:
            if not isinstance(writer, NextTokenModel) or writer.vocabulary != data.vocabulary:
                found = getattr(writer, "vocabulary", type(writer).__name__)
                raise InputError(
                    f"writers: expected models of the next of {data.vocabulary} tokens, found "
                    f"{found}."
                )
        self.data, self.writers, self.writing = data, list(writers), writing
        self.vocabulary, self.length = data.vocabulary, data.length
        self.tokenizer = data.tokenizer

    def read(self) -> tuple[Batch, Batch]:
        """The training part as the writers have it, and what the data hold out."""
        training, heldout = self.data.parts
        tokens, mask = training["tokens"], training["mask"]
        rows = torch.arange(len(tokens))
        written = tokens.clone()
        for number, writer in enumerate(self.writers):
            for some in torch.split(rows[number :: len(self.writers)], ROWS):
                start = tokens[some].masked_fill(mask[some], self.vocabulary)
                written[some] = self._continued(writer, start, some)
        self.writers = []  # needed no more
        return training | {"tokens": written}, heldout

    def _continued(self, writer: nn.Module, start: Tensor, rows: Tensor) -> Tensor:
        assert isinstance(writer, NextTokenModel)
        assert isinstance(writer, nn.Module)
        writer.eval()
        return left_to_right(writer, start, RowDraws(rows, self.writing)).tokens

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part of the data."""
        return EvaluationLoader(self.data.parts[1], self.batch_size, *self.ranks)

    def judges(self) -> list[SampleMetric]:
        """Those of the data."""
        return self.data.judges()

    def law(self) -> NextTokenModel | None:
        """That of the data."""
        return self.data.law()
