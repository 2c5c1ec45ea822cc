"""Text of any files."""

from pathlib import Path

from datamodules.text.texts import Layout, TextDataModule
from kdlight.storage.documents import Document, read_documents
from kdlight.storage.tokenizers import Tokenizer


class TextFilesDataModule(TextDataModule):
    """Text files, JSON lines and manifests; see :func:`~kdlight.storage.documents.read_documents`.

    Args:
        path: A file or a folder.
        tokenizer: Turns texts into tokens.
        length: Tokens of a row.
        heldout_path: File or folder to hold out; None holds out a share of ``path``.
        field: Name of the text in tables.
        lines: Whether each line of a plain file is a text of its own.
        layout: See :class:`~datamodules.text.texts.TextDataModule`, as are all others.
        heldout: Share of the texts that is held out.
        scored_padding: Whether padding is scored.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        path: str,
        tokenizer: Tokenizer,
        length: int,
        heldout_path: str | None = None,
        field: str = "text",
        lines: bool = False,
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
        self.path = path
        self.heldout_path = heldout_path
        self.field = field
        self.lines = lines

    def documents(self) -> list[Document]:
        return read_documents(Path(self.path), self.field, self.lines)

    def heldout_documents(self) -> list[Document] | None:
        if self.heldout_path is None:
            return None
        return read_documents(Path(self.heldout_path), self.field, self.lines)
