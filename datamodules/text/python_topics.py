"""A text that needs no download: the language reference that Python's help shows."""

from datamodules.text.texts import Layout, TextDataModule
from kdlight.errors import InputError
from kdlight.storage.documents import Document
from kdlight.storage.tokenizers import Tokenizer


class PythonTopicsDataModule(TextDataModule):
    """The topics of ``pydoc_data``, some 80 texts of 465,000 characters in Python 3.11.

    The text is Python's (PSF licence) and differs a little from version to version, so figures
    are comparable within one.

    Args:
        tokenizer: Turns texts into tokens.
        length: Tokens of a row.
        layout: See :class:`~datamodules.text.texts.TextDataModule`, as are all others.
        heldout: Share of the topics that is held out.
        scored_padding: Whether padding is scored.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
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

    def documents(self) -> list[Document]:
        return topic_texts()


def topic_texts() -> list[Document]:
    """The topics in the order of their names.

    Raises:
        InputError: This Python came without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise InputError(
            "expected the module pydoc_data.topics, which this Python was installed without."
        ) from None
    return [Document(topics[name], f"topic {name}") for name in sorted(topics)]
