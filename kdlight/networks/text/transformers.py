"""Networks of the transformers library behind the interface of our own: tokens to logits."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.storage.files import read_json

Kind = Literal["masked", "causal"]


class TransformersNetwork(Recorded, nn.Module):
    """BERT, ModernBERT (``masked``) or GPT-2, Llama, Qwen (``causal``), by their configuration.

    Tokens 0 to V - 1 are read and predicted; V, the mask, is read as ``mask_token``. Without one
    the network has one more row than V for it.

    Args:
        config: What a ``config.json`` holds: ``model_type`` and the settings of that type;
            ``vocab_size`` is V.
        kind: ``masked`` models see both directions, ``causal`` ones those before.
        mask_token: The token of the V that stands for a mask, which is then never predicted by a
            ``masked`` model; of a ``causal`` one the token that begins a text.

    Raises:
        InputError: transformers knows no such model, or it has no such token.
    """

    def __init__(
        self, config: dict[str, Any], kind: Kind = "masked", mask_token: int | None = None
    ) -> None:
        super().__init__()
        import transformers

        vocabulary = config.get("vocab_size")
        if not isinstance(vocabulary, int) or not 0 <= (mask_token or 0) < vocabulary:
            raise InputError(
                "TransformersNetwork: expected a vocab_size, and a mask_token below it, found "
                f"{vocabulary} and {mask_token}."
            )
        self.vocabulary = vocabulary
        self.kind = kind
        self.mask_token = mask_token
        settings = {key: value for key, value in config.items() if key != "model_type"}
        settings["vocab_size"] = vocabulary + (mask_token is None)
        automatic = {
            "masked": transformers.AutoModelForMaskedLM,
            "causal": transformers.AutoModelForCausalLM,
        }[kind]
        try:
            made = transformers.AutoConfig.for_model(str(config.get("model_type")), **settings)
            self.model = automatic.from_config(made)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                f"TransformersNetwork: expected a {kind} model of transformers, found "
                f"{config.get('model_type')!r} ({reason})."
            ) from None

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of tokens (B, L), the mask being V."""
        read = tokens
        if self.mask_token is not None:
            read = torch.where(tokens == self.vocabulary, self.mask_token, tokens)
        logits: Tensor = self.model(input_ids=read).logits[..., : self.vocabulary]
        if self.kind == "masked" and self.mask_token is not None:
            never = torch.arange(self.vocabulary, device=logits.device) == self.mask_token
            logits = logits.masked_fill(never, -torch.inf)
        return logits


def from_folder(path: str, kind: Kind = "masked") -> TransformersNetwork:
    """A network with the weights of a folder of transformers, or of a name on its hub.

    The mask is the tokenizer's, of a ``masked`` model; what begins a text, of a ``causal`` one, is
    its first token of BOS, EOS. No code of the folder is run.

    Raises:
        InputError: There is no such model, or its tokenizer has no such token.
    """
    import transformers

    automatic = {
        "masked": transformers.AutoModelForMaskedLM,
        "causal": transformers.AutoModelForCausalLM,
    }[kind]
    try:
        loaded = automatic.from_pretrained(path, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    except Exception as error:  # as many types as there are ways to be no model
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160].rstrip(".")
        raise InputError(
            f"{path}: expected a {kind} language model of transformers ({reason})."
        ) from None
    mask = tokenizer.mask_token_id
    if kind == "causal":
        begins = (tokenizer.bos_token_id, tokenizer.eos_token_id, loaded.config.bos_token_id)
        mask = next((token for token in begins if token is not None), None)
    if mask is None:
        raise InputError(f"{path}: expected a tokenizer with a mask, or a first token, found none.")
    config = loaded.config.to_diff_dict() | {
        "model_type": loaded.config.model_type,
        "vocab_size": loaded.config.vocab_size,
    }
    made = TransformersNetwork(config, kind, int(mask))
    made.model.load_state_dict(loaded.state_dict())
    return made


def to_folder(network: TransformersNetwork, folder: Path) -> None:
    """Write the network as transformers keeps it: ``config.json`` and ``model.safetensors``."""
    network.model.save_pretrained(folder)
    assert "model_type" in read_json(folder / "config.json")
