"""Decoders of ``transformers`` that see both sides: the networks of SMDM and LLaDA."""

from typing import Any

from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError

KINDS = ("llama", "mistral", "qwen2", "qwen3")
"""Kinds whose attention takes any mask that it is given."""


class BidirectionalLM(Recorded, nn.Module):
    """A causal model's layers with every token in sight of every other, and a head.

    Tokens (B, L) to logits (B, L, V). SMDM (arXiv:2410.18514) is a Llama of this form.

    Args:
        config: Settings of the layers as transformers writes them (``config.json``), with
            ``model_type`` one of llama, mistral, qwen2 and qwen3; ``vocab_size`` is not read.
        vocabulary: Tokens V it predicts; one more, the mask, is read.

    Raises:
        InputError: It is another kind, or transformers refuses a setting.
    """

    def __init__(self, config: dict[str, Any], vocabulary: PositiveInt) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        known = {key: value for key, value in config.items() if key != "model_type"}
        kind = config.get("model_type")
        if kind not in KINDS:
            raise InputError(f"model_type: expected one of {', '.join(KINDS)}, found {kind!r}.")
        try:
            settings = AutoConfig.for_model(kind, **known | {"vocab_size": vocabulary + 1})
            self.layers = AutoModel.from_config(settings)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(f"config: expected settings of a {kind} ({reason}).") from None
        self.vocabulary = vocabulary
        self.head = nn.Linear(settings.hidden_size, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of tokens (B, L), the mask being V."""
        length = tokens.shape[1]
        # A mask of four dimensions is taken as it is, without the causal one.
        open_mask = self.head.weight.new_zeros(1, 1, length, length)
        seen = open_mask.expand(len(tokens), -1, -1, -1)
        hidden = self.layers(input_ids=tokens, attention_mask=seen, use_cache=False)
        logits: Tensor = self.head(hidden.last_hidden_state)
        return logits


def open_to_both_sides(
    width: int, hidden: int, depth: int, heads: int, length: int, vocabulary: int
) -> BidirectionalLM:
    """A Llama of SMDM's shape: no biases, as many keys as queries, eps 1e-5.

    Args:
        width: Channels of a token.
        hidden: Hidden channels of a perceptron.
        depth: Blocks.
        heads: Attention heads.
        length: Tokens of a row at most.
        vocabulary: Tokens V.
    """
    settings = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": length,
        "rms_norm_eps": 1e-5,
    }
    return BidirectionalLM(settings, vocabulary)
