"""Experts cut out of a dense transformer by what its units do in each domain (2410.19123)."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.experts import ExpertTransformer
from kdlight.networks.text.token_transformer import TokenTransformer, TransformerBlock
from kdlight.surgery.pruning import highest

Labelled = Iterable[tuple[Tensor, Tensor, Tensor | None]]
"""Tokens (B, T), which are no padding (B, T) bool, and the domain of every row (B,) int64."""


def dense(model: AutoregressiveModel) -> TokenTransformer:
    """The network of a model whose experts can be cut.

    Raises:
        InputError: It is no causal transformer of kdlight.
    """
    network = model.network
    if not isinstance(network, TokenTransformer) or not network._init_args["causal"]:
        raise InputError(
            f"experts: expected a causal TokenTransformer, found {type(network).__name__}."
        )
    return network


def perceptrons(network: TokenTransformer) -> list[tuple[nn.Linear, nn.Linear]]:
    """What goes into the hidden units of every block, and what goes out."""
    found = []
    for block in network.blocks:
        up, down = block.get_submodule("mlp.0"), block.get_submodule("mlp.2")
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        found.append((up, down))
    return found


@torch.no_grad()
def hidden_units(network: TokenTransformer, tokens: Tensor) -> list[Tensor]:
    """What the hidden units of every block give, (B, T, units) each, of tokens (B, T)."""
    hidden, angles, found = network.embedding(tokens), network.angles(tokens), []
    for block in network.blocks:
        assert isinstance(block, TransformerBlock)
        assert isinstance(block.mlp, nn.Sequential)
        up, activation, down = block.mlp
        mixed = block.attended(hidden, angles)
        found.append(activation(up(block.mlp_norm(mixed))))
        hidden = mixed + down(found[-1])
    return found


def activity(model: AutoregressiveModel, batches: Labelled, domains: int) -> Tensor:
    """Mean size of every hidden unit in each domain, (domains, layers, units) float64.

    Args:
        model: In evaluation mode.
        batches: The data, with their domains.
        domains: How many there are.

    Raises:
        InputError: There is none of a domain.
    """
    network = dense(model)
    total: Tensor | int = 0
    count = torch.zeros(domains, dtype=torch.float64)
    for tokens, real, domain in batches:
        assert domain is not None
        sizes = torch.stack(hidden_units(network, model.begun(tokens[:, :-1]))).double().abs()
        each = (sizes * real[..., None]).sum(dim=2)  # (layers, B, units)
        own = nn.functional.one_hot(domain.long(), domains).double()
        total = total + torch.einsum("lbu,bd->dlu", each, own).cpu()
        count += (own * real.sum(dim=1, keepdim=True)).sum(dim=0).cpu()
    if lacking := (count == 0).nonzero().flatten().tolist():
        raise InputError(
            f"calibration: expected rows of all {domains} domains, found {lacking} without any."
        )
    assert isinstance(total, Tensor)
    return total / count[:, None, None]


def masks_of(scores: Tensor, share: float) -> Tensor:
    """Which units each domain keeps, (domains, layers, units) bool: its highest, ``share`` of all.

    As many in every domain and layer. (The released program keeps those *above* the last of them,
    one less.)

    Args:
        scores: (domains, layers, units).
        share: In (0, 1].
    """
    kept = highest(scores, math.ceil(share * scores.shape[2]))
    return torch.zeros_like(scores, dtype=torch.bool).scatter(2, kept, True)


@torch.no_grad()
def cut_experts(
    model: AutoregressiveModel,
    masks: Tensor,
    router_width: int = 32,
    router_depth: int = 1,
    router_heads: int = 2,
) -> AutoregressiveModel:
    """A model with an expert a domain; units that all domains keep become one that all tokens have.

    A unit that some domains keep is copied into each of their experts. The router is drawn anew.

    Args:
        model: Stays as it is.
        masks: Which units each domain keeps, (domains, layers, units) bool.
        router_width: Channels of a token in the router.
        router_depth: Its blocks.
        router_heads: Its attention heads.

    Raises:
        InputError: The model's experts cannot be cut.
    """
    network = dense(model)
    said = network._init_args
    shared = masks.all(dim=0)
    own = masks & ~shared
    made = ExpertTransformer(
        model.vocabulary,
        said["width"],
        said["depth"],
        said["heads"],
        network.head_width,
        masks.shape[2],
        shared.sum(dim=1).tolist(),
        own.sum(dim=2).T.tolist(),
        router_width,
        router_depth,
        router_heads,
    ).to(next(network.parameters()))
    state = made.state_dict()
    state |= {name: each for name, each in network.state_dict().items() if name in state}
    made.load_state_dict(state)
    for layer, (experts, (up, down)) in enumerate(
        zip(made.perceptrons(), perceptrons(network), strict=True)
    ):
        parts = zip(experts.up, experts.up_bias, experts.down, strict=True)
        for kept, (into, bias, out) in zip([shared[layer], *own[:, layer]], parts, strict=True):
            into.copy_(up.weight[kept])
            bias.copy_(up.bias[kept])
            out.copy_(down.weight[:, kept])
        experts.bias.copy_(down.bias)
        experts.masks.copy_(masks[:, layer])
    return AutoregressiveModel(made, model.vocabulary, model.length, model.beginning)
