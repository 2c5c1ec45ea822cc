"""Encoders of ``transformers`` that classify texts and show the states of their layers."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.storage.pretrained import whole


class Classified(NamedTuple):
    """What a classifier says of a batch of texts.

    Attributes:
        logits: (B, C).
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

    def __init__(self, config: dict[str, Any], classes: int) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModelForSequenceClassification

        if classes < 2:
            raise InputError(f"classes: expected at least 2, found {classes}.")
        dropped = ("model_type", "num_labels", "id2label", "label2id")
        known = {key: value for key, value in config.items() if key not in dropped}
        try:
            settings = AutoConfig.for_model(
                str(config.get("model_type")), num_labels=classes, **known
            )
            self.model = AutoModelForSequenceClassification.from_config(settings)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                "TextClassifier: expected an encoder of transformers with a head of classes, found "
                f"{config.get('model_type')!r} ({reason})."
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


def text_classifier(path: str) -> TextClassifier:
    """A classifier out of a folder of ``transformers``, or by its name on the hub.

    Args:
        path: Folder, or name on the hub.

    Raises:
        InputError: There is no such model with all its weights, its head among them.
    """
    from transformers import AutoModelForSequenceClassification

    loaded = whole(
        AutoModelForSequenceClassification,
        path,
        "a classifier of transformers",
        dtype=torch.float32,
    )
    found = TextClassifier(_settings(loaded), int(loaded.config.num_labels))
    found.model.load_state_dict(loaded.state_dict())
    return found


def classifier_of_encoder(path: str, classes: int) -> TextClassifier:
    """An encoder of a folder of ``transformers``, or of the hub, under a new head.

    Args:
        path: Folder, or name on the hub.
        classes: Classes C of the head, which is drawn at random.

    Raises:
        InputError: There is no such encoder with all its weights.
    """
    from transformers import AutoModel

    loaded = whole(AutoModel, path, "an encoder of transformers", dtype=torch.float32)
    found = TextClassifier(_settings(loaded), classes)
    own = found.model.base_model.state_dict()
    own |= {name: value for name, value in loaded.state_dict().items() if name in own}
    found.model.base_model.load_state_dict(own)
    return found


def _settings(loaded: Any) -> dict[str, Any]:
    return {key: value for key, value in loaded.config.to_dict().items() if value is not None}
