"""A part of other data: the rows that ``kdlight select`` chose."""

from pathlib import Path

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.metrics.base import SampleMetric
from kdlight.selection.files import digest_of_tokens, read_selection
from kdlight.storage.files import require_file


class SelectedDataModule(TokenDataModule):
    """The chosen training rows of other data, and all that those hold out.

    Args:
        data: The data whose training rows were scored.
        selection: What ``kdlight select`` wrote (``.json``).

    Raises:
        InputError: There is no such file, or it speaks of other data.
    """

    def __init__(self, data: TokenDataModule, selection: str) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data.seed)
        self.data = data
        self.selection = Path(selection)
        self.vocabulary, self.length = data.vocabulary, data.length
        self.tokenizer = data.tokenizer

    def read(self) -> tuple[Batch, Batch]:
        require_file(self.selection)
        training, heldout = self.data.parts
        digest = digest_of_tokens(training["tokens"], training["lengths"])
        rows = read_selection(self.selection, digest, len(training["tokens"]))
        return {name: tensor.index_select(0, rows) for name, tensor in training.items()}, heldout

    def judges(self) -> list[SampleMetric]:
        """Those of the data."""
        return self.data.judges()

    def law(self) -> NextTokenModel | None:
        """That of the data."""
        return self.data.law()
