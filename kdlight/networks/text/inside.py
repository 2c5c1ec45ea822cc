"""What lies inside a causal transformer: states and attention of every layer."""

from contextlib import ExitStack
from typing import NamedTuple

from torch import Tensor

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer, TransformerBlock


class Inside(NamedTuple):
    """Of tokens (B, L), the places of whose logits all have.

    Attributes:
        logits: (B, L, V).
        states: Of the embedding and behind every layer, (B, L, D) each; of models of transformers
            the last is that behind the norm at the end.
        attention: Weights of every layer, (B, H, L, L) each.
    """

    logits: Tensor
    states: list[Tensor]
    attention: list[Tensor]


def shown(model: AutoregressiveModel) -> AutoregressiveModel:
    """A model whose inside can be seen: attention of transformers that keeps its weights.

    Raises:
        InputError: It is no model whose inside is known.
    """
    network = model.network
    if isinstance(network, CausalLM):
        network.model.set_attn_implementation("eager")  # type: ignore[operator]
    elif not isinstance(network, TokenTransformer):
        raise InputError(
            "model: expected a TokenTransformer, or a causal model of transformers, found "
            f"{type(network).__name__}."
        )
    return model


def inside(model: AutoregressiveModel, tokens: Tensor) -> Inside:
    """Logits, states and attention of a model that :func:`shown` has seen.

    Args:
        model: The model.
        tokens: (B, L) int64.
    """
    network, read = model.network, model.begun(tokens[:, :-1])
    if isinstance(network, CausalLM):
        found = network.model(
            input_ids=read, use_cache=False, output_hidden_states=True, output_attentions=True
        )
        logits = found.logits[..., : network.vocabulary]
        return Inside(logits, list(found.hidden_states), list(found.attentions))
    assert isinstance(network, TokenTransformer)
    states: list[Tensor] = []
    blocks = [block for block in network.blocks if isinstance(block, TransformerBlock)]
    with ExitStack() as around:
        for block in blocks:
            hook = block.register_forward_pre_hook(lambda _, given: states.append(given[0]))
            around.callback(hook.remove)
        hook = blocks[-1].register_forward_hook(lambda _, given, out: states.append(out))
        around.callback(hook.remove)
        logits = network(read)
    angles = network.angles(read)
    attention = [
        block.mixing_matrix(block.attention_norm(given), angles)
        for block, given in zip(blocks, states[:-1], strict=True)
    ]
    return Inside(logits, states, attention)
