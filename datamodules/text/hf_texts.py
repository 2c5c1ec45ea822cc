"""Texts of the Hugging Face hub, or of a local data set in one of its formats."""

from pathlib import Path
from typing import Any

from datamodules.text.texts import Layout, TextDataModule
from kdlight.errors import InputError
from kdlight.storage.documents import Document
from kdlight.storage.tokenizers import Tokenizer

SAVED = ("dataset_dict.json", "state.json")
"""Files by which a folder of ``save_to_disk`` is known."""


class HFTextsDataModule(TextDataModule):
    """A column of texts of a data set that the ``datasets`` library can load.

    Needs the extra ``hub-data``. All tokens are held in memory by every process, 4 bytes each, and
    while they are made the texts too.

    Args:
        dataset: Name on the hub, or a local folder: Parquet, JSON or text files, or
            ``save_to_disk``.
        tokenizer: Turns texts into tokens.
        length: Tokens of a row.
        split: The split to train on; a slice such as ``train[:10%]`` takes a part.
        heldout_split: The split to hold out; None holds out a share of ``split``.
        subset: Name of the configuration, for data sets that have several.
        field: Column of the texts.
        layout: See :class:`~datamodules.text.texts.TextDataModule`, as are all others.
        heldout: Share of the texts that is held out.
        scored_padding: Whether padding is scored.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        dataset: str,
        tokenizer: Tokenizer,
        length: int,
        split: str = "train",
        heldout_split: str | None = None,
        subset: str | None = None,
        field: str = "text",
        layout: Layout = "packed",
        heldout: float = 0.1,
        scored_padding: bool = False,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(
            tokenizer, length, layout, heldout, scored_padding, batch_size, steps_per_epoch, seed
        )
        self.dataset = dataset
        self.split = split
        self.heldout_split = heldout_split
        self.subset = subset
        self.field = field

    def documents(self) -> list[Document]:
        return self._texts(self.split)

    def heldout_documents(self) -> list[Document] | None:
        return None if self.heldout_split is None else self._texts(self.heldout_split)

    def _texts(self, split: str) -> list[Document]:
        """The texts of a split that are not empty.

        Raises:
            InputError: There is no such split or column, or no text in it.
        """
        rows = self._load(split)
        if self.field not in rows.column_names:
            raise InputError(
                f"{self.dataset}: expected a column {self.field!r}, found "
                f"{', '.join(rows.column_names)}."
            )
        texts = rows[self.field]
        wrong = next((n for n, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise InputError(
                f"{self.dataset}: row {wrong} of {split!r}: {self.field}: expected a text, found "
                f"{type(texts[wrong]).__name__}."
            )
        found = [Document(text, f"{split} {n}") for n, text in enumerate(texts) if text]
        if not found:
            raise InputError(f"{self.dataset}: expected texts in {split!r}, found none.")
        return found

    def _load(self, split: str) -> Any:
        try:
            import datasets
        except ImportError:
            raise InputError(
                "HFTextsDataModule needs the datasets library: pip install 'kdlight[hub-data]'."
            ) from None
        try:
            if any(Path(self.dataset, mark).is_file() for mark in SAVED):
                found = datasets.load_from_disk(self.dataset)
                return found[split] if isinstance(found, datasets.DatasetDict) else found
            return datasets.load_dataset(self.dataset, self.subset, split=split)
        except Exception as error:  # missing, unreachable, no such split, odd files, ...
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise InputError(
                f"{self.dataset}: cannot load split {split!r} as a data set ({reason})."
            ) from None
