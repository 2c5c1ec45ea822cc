"""Networks that make one vector of a text: what passages are found by."""

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.storage.pretrained import whole


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the states (B, L, D) of the tokens that are no padding, (B, D)."""
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class TextEncoder(Recorded, nn.Module):
    """Base of the encoders: texts (B, L) with their mask to vectors (B, width)."""

    vocabulary: int
    width: int

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Vectors, (B, width).

        Args:
            tokens: (B, L) int64.
            mask: Tokens that are no padding, (B, L) bool.
        """
        raise NotImplementedError


class BagOfTokens(TextEncoder):
    """The mean of the vectors of a text's tokens, mapped linearly: no order, microseconds.

    Args:
        vocabulary: Tokens V.
        width: Of a vector.
    """

    def __init__(self, vocabulary: PositiveInt, width: PositiveInt = 128) -> None:
        super().__init__()
        self.vocabulary, self.width = vocabulary, width
        self.embedding = nn.Embedding(vocabulary, width)
        self.head = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.head(mean_of(self.embedding(tokens), mask))  # type: ignore[no-any-return]


class TransformerEncoder(TextEncoder):
    """An encoder of ``transformers``, the mean of whose last states is the text's vector.

    Args:
        config: Its configuration as transformers writes it (``config.json``).

    Raises:
        InputError: transformers knows no such model.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        known = {key: value for key, value in config.items() if key != "model_type"}
        try:
            settings = AutoConfig.for_model(str(config.get("model_type")), **known)
            self.network = AutoModel.from_config(settings)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                "TransformerEncoder: expected an encoder of transformers, found "
                f"{config.get('model_type')!r} ({reason})."
            ) from None
        self.vocabulary, self.width = int(settings.vocab_size), int(settings.hidden_size)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found = self.network(input_ids=tokens, attention_mask=mask.long())
        return mean_of(found.last_hidden_state, mask)

    def whole(self) -> nn.Module:
        """The model of transformers."""
        model: nn.Module = self.network
        return model


def transformer_encoder(path: str) -> TransformerEncoder:
    """An encoder out of a folder of ``transformers``, or by its name on the hub.

    Args:
        path: Folder, or name on the hub.

    Raises:
        InputError: There is no such encoder with all its weights.
    """
    from transformers import AutoModel

    loaded = whole(AutoModel, path, "an encoder of transformers", dtype=torch.float32)
    settings = {key: value for key, value in loaded.config.to_dict().items() if value is not None}
    found = TransformerEncoder(settings)
    found.network.load_state_dict(loaded.state_dict())
    return found
