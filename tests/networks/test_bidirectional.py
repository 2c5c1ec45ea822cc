"""Decoders that see both sides."""

import pytest
import torch

from kdlight.errors import InputError
from kdlight.networks.text.bidirectional import KINDS, BidirectionalLM

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 12,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_in_sight_of_every_other(kind: str) -> None:
    torch.manual_seed(0)
    network = BidirectionalLM(SMALL | {"model_type": kind}, 7).eval()
    tokens = torch.tensor([[1, 2, 3, 7], [1, 2, 3, 4]])
    first, second = network(tokens)
    assert first.shape == (4, 7)
    assert (first - second).abs().amax(dim=1).min() > 1e-6  # the last token, seen by the first


def test_other_kinds_and_settings_are_refused() -> None:
    with pytest.raises(InputError, match="expected one of llama"):
        BidirectionalLM(SMALL | {"model_type": "gpt2"}, 7)
    with pytest.raises(InputError, match="expected settings of a llama"):
        BidirectionalLM(SMALL | {"model_type": "llama", "num_hidden_layers": "two"}, 7)
