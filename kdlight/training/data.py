"""What methods and callbacks ask of a run's data, and where they get it."""

from typing import Any, Protocol, runtime_checkable

import lightning as L
from torch import Tensor

from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.storage.tokenizers import Tokenizer


@runtime_checkable
class SpeechData(Protocol):
    """Data of speech; utterances are as :class:`~kdlight.guidance.sources.SpeechUtterance`."""

    sample_rate: int

    def training_utterances(self) -> list[Any]:
        """What crops are taken from."""

    def heldout_utterances(self) -> list[Any]:
        """What training never hears."""


@runtime_checkable
class TokenData(Protocol):
    """Data of sequences of tokens, the exact law of which may be known."""

    parts: tuple[dict[str, Tensor], dict[str, Tensor]]
    tokenizer: Tokenizer | None

    def judges(self) -> list[SampleMetric]:
        """Metrics that only these data offer."""

    def law(self) -> NextTokenModel | None:
        """The exact law of every next token."""


def data_of(trainer: L.Trainer) -> Any:
    """The data module of a run, which Lightning's types do not know of."""
    return getattr(trainer, "datamodule", None)


def speech_of(trainer: L.Trainer, owner: str) -> SpeechData:
    """The data of a run of speech.

    Raises:
        InputError: They are others; ``owner`` says who needs speech.
    """
    data = data_of(trainer)
    if not isinstance(data, SpeechData):
        raise InputError(f"{owner}: expected data of speech, found {type(data).__name__}.")
    return data


def tokens_of(trainer: L.Trainer, owner: str) -> TokenData:
    """The data of a run of sequences of tokens.

    Raises:
        InputError: They are others; ``owner`` says who needs tokens.
    """
    data = data_of(trainer)
    if not isinstance(data, TokenData):
        raise InputError(f"{owner}: expected data of sentences, found {type(data).__name__}.")
    return data
