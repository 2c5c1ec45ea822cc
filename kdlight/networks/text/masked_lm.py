"""Masked language models of ``transformers``: BERT, ModernBERT and all that see both sides."""

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.errors import InputError
from kdlight.storage.pretrained import one_sentence, pretrained, refuse_endless, whole


class MaskedLM(Recorded, nn.Module):
    """A model of ``transformers`` as a network of tokens 0 to V - 1, the mask being V.

    Args:
        config: Its configuration as transformers writes it (``config.json``); ``vocab_size`` is V.
        mask_token: The one of the V that stands for a mask, which is then never predicted. None
            for a model that is to be trained: it gets one more row than V.

    Raises:
        InputError: transformers knows no such model, or it has no such token.
    """

    def __init__(self, config: dict[str, Any], mask_token: int | None = None) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModelForMaskedLM

        vocabulary = config.get("vocab_size")
        if not isinstance(vocabulary, int) or not 0 <= (mask_token or 0) < vocabulary:
            raise InputError(
                "MaskedLM: expected a vocab_size, and a mask_token below it, found "
                f"{vocabulary} and {mask_token}."
            )
        self.vocabulary = vocabulary
        self.mask_token = mask_token
        known = {key: value for key, value in config.items() if key != "model_type"}
        known["vocab_size"] = vocabulary + (mask_token is None)
        refuse_endless(config, "config")
        with one_sentence("config", "settings of a masked model of transformers"):
            settings = AutoConfig.for_model(str(config.get("model_type")), **known)
            self.model = AutoModelForMaskedLM.from_config(settings)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of tokens (B, L), the mask being V."""
        if self.mask_token is None:
            logits: Tensor = self.model(input_ids=tokens).logits
            return logits[..., : self.vocabulary]
        read = torch.where(tokens == self.vocabulary, self.mask_token, tokens)
        logits = self.model(input_ids=read).logits
        never = torch.arange(self.vocabulary, device=logits.device) == self.mask_token
        return logits[..., : self.vocabulary].masked_fill(never, -torch.inf)

    def whole(self) -> nn.Module:
        """The model of transformers."""
        model: nn.Module = self.model
        return model


def masked_lm(path: str, length: int) -> MaskedDenoiser:
    """A masked model out of a folder of ``transformers``, or by its name on the hub.

    The mask is its tokenizer's. No code of the folder is run.

    Args:
        path: Folder, or name on the hub.
        length: Tokens of a row, as it samples.

    Raises:
        InputError: There is no such model with all its weights, or its tokenizer has no mask.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    expected = "a masked language model of transformers"
    loaded = whole(AutoModelForMaskedLM, path, expected, dtype=torch.float32)
    mask = pretrained(AutoTokenizer, path, "a tokenizer of transformers").mask_token_id
    if mask is None:
        raise InputError(f"{path}: expected a tokenizer with a mask, found none.")
    settings = {key: value for key, value in loaded.config.to_dict().items() if value is not None}
    network = MaskedLM(settings, int(mask))
    network.model.load_state_dict(loaded.state_dict())
    return MaskedDenoiser(network, network.vocabulary, length)
