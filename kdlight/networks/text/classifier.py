"""Encoders of ``transformers`` that classify texts or tokens and show their layers' states."""

from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.storage.pretrained import whole


class Classified(NamedTuple):
    """What a classifier says of a batch of texts.

    Attributes:
        logits: (B, C); of a classifier of tokens (B, L, C).
        states: Of the embedding and of every layer behind it, (B, L, D) each.
    """

    logits: Tensor
    states: tuple[Tensor, ...]


class TextClassifier(Recorded, nn.Module):
    """A model of ``transformers`` with a head of classes (BERT, ModernBERT, ELECTRA, ...).

    Args:
        config: Its configuration as transformers writes it (``config.json``).
        classes: Classes C.

    Raises:
        InputError: transformers knows no such model, or ``classes`` is below 2.
    """

    head: ClassVar[str] = "AutoModelForSequenceClassification"
    """Which of transformers' classes makes the network."""
    per_token: ClassVar[bool] = False
    """Whether every token has a class, not the text."""

    def __init__(self, config: dict[str, Any], classes: int) -> None:
        super().__init__()
        import transformers

        if classes < 2:
            raise InputError(f"classes: expected at least 2, found {classes}.")
        dropped = ("model_type", "num_labels", "id2label", "label2id")
        known = {key: value for key, value in config.items() if key not in dropped}
        try:
            settings = transformers.AutoConfig.for_model(
                str(config.get("model_type")), num_labels=classes, **known
            )
            self.model = getattr(transformers, self.head).from_config(settings)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                f"{type(self).__name__}: expected an encoder of transformers with a head of "
                f"classes, found {config.get('model_type')!r} ({reason})."
            ) from None
        self.classes = classes
        self.vocabulary = int(settings.vocab_size)
        self.width, self.depth = int(settings.hidden_size), int(settings.num_hidden_layers)

    def forward(self, tokens: Tensor, mask: Tensor) -> Classified:
        """Classes and states.

        Args:
            tokens: (B, L) int64.
            mask: Tokens that are no padding, (B, L) bool.
        """
        found = self.model(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=True)
        return Classified(found.logits, tuple(found.hidden_states))

    def whole(self) -> nn.Module:
        """The model of transformers."""
        model: nn.Module = self.model
        return model


class TokenClassifier(TextClassifier):
    """The same with a class for every token (``AutoModelForTokenClassification``).

    For tags, entities, or the hidden states of a language.

    Args:
        config: Configuration of the encoder as transformers writes it (``config.json``).
        classes: Classes C of a token.

    Raises:
        InputError: transformers knows no such model, or ``classes`` is below 2.
    """

    head = "AutoModelForTokenClassification"
    per_token = True

    # Of its own, so that a file names this class's arguments.
    def __init__(self, config: dict[str, Any], classes: int) -> None:
        super().__init__(config, classes)


AnyClassifier = TypeVar("AnyClassifier", bound=TextClassifier)


def text_classifier(path: str) -> TextClassifier:
    """A classifier out of a folder of ``transformers``, or by its name on the hub.

    Args:
        path: Folder, or name on the hub.

    Raises:
        InputError: There is no such model with all its weights, its head among them.
    """
    return _read(TextClassifier, path, "a classifier of transformers")


def token_classifier(path: str) -> TokenClassifier:
    """A classifier of tokens out of a folder of ``transformers``, or by its name on the hub.

    Args:
        path: Folder, or name on the hub.

    Raises:
        InputError: There is no such model with all its weights, its head among them.
    """
    return _read(TokenClassifier, path, "a classifier of tokens of transformers")


def classifier_of_encoder(path: str, classes: int) -> TextClassifier:
    """An encoder of a folder of ``transformers``, or of the hub, under a new head.

    Args:
        path: Folder, or name on the hub.
        classes: Classes C of the head, which is drawn at random.

    Raises:
        InputError: There is no such encoder with all its weights.
    """
    return _headed(TextClassifier, path, classes)


def token_classifier_of_encoder(path: str, classes: int) -> TokenClassifier:
    """An encoder of a folder of ``transformers``, or of the hub, under a new head for tokens.

    Args:
        path: Folder, or name on the hub.
        classes: Classes C of the head, which is drawn at random.

    Raises:
        InputError: There is no such encoder with all its weights.
    """
    return _headed(TokenClassifier, path, classes)


def _read(kind: type[AnyClassifier], path: str, expected: str) -> AnyClassifier:
    import transformers

    loaded = whole(getattr(transformers, kind.head), path, expected, dtype=torch.float32)
    found = kind(_settings(loaded), int(loaded.config.num_labels))
    found.model.load_state_dict(loaded.state_dict())
    return found


def _headed(kind: type[AnyClassifier], path: str, classes: int) -> AnyClassifier:
    from transformers import AutoModel

    loaded = whole(AutoModel, path, "an encoder of transformers", dtype=torch.float32)
    found = kind(_settings(loaded), classes)
    own = found.model.base_model.state_dict()
    own |= {name: value for name, value in loaded.state_dict().items() if name in own}
    found.model.base_model.load_state_dict(own)
    return found


def _settings(loaded: Any) -> dict[str, Any]:
    return {key: value for key, value in loaded.config.to_dict().items() if value is not None}
