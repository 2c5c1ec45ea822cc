"""A transformer without the parts that do least (Minitron, arXiv:2407.14679)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlight.core.spec import rebuilt
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.surgery.anatomy import Anatomy, Sizes, selected
from kdlight.surgery.importance import Importance


@dataclass(frozen=True)
class Kept:
    """Numbers of the parts that stay, in their old order.

    Attributes:
        layers: Blocks.
        width: Channels, (width,) int64.
        mlp: Hidden units of every block that stays, (layers, mlp) int64.
        heads: Heads of every block that stays, (layers, heads) int64.
        groups: Their groups of keys and values, (layers, groups) int64.
    """

    layers: list[int]
    width: Tensor
    mlp: Tensor
    heads: Tensor
    groups: Tensor


def highest(scores: Tensor, count: int) -> Tensor:
    """Where the highest scores lie, in order, (..., count) int64; of equal ones the first."""
    ranked = scores.argsort(dim=-1, descending=True, stable=True)
    return ranked[..., :count].sort(dim=-1).values


def choose(anatomy: Anatomy, sizes: Sizes, importance: Importance) -> Kept:
    """The parts that do most.

    Groups of heads go together with the keys and values that they share; a group scores the root
    of the sum of its heads' squares. Every block keeps as many units, which need not be the same.

    Args:
        anatomy: Of the network.
        sizes: What it is to be.
        importance: Scores of its parts.
    """
    share = anatomy.share
    layers = highest(importance.layers, sizes.layers)
    grouped = importance.heads[layers].reshape(sizes.layers, -1, share).square().sum(dim=2)
    groups = highest(grouped, sizes.heads // share)
    heads = (groups[..., None] * share + torch.arange(share)).flatten(1)
    return Kept(
        layers.tolist(),
        highest(importance.width, sizes.width),
        highest(importance.mlp[layers], sizes.mlp),
        heads,
        groups,
    )


def shuffled(importance: Importance, seed: int) -> Importance:
    """Random scores of the same parts: the control of any score."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(scores: Tensor) -> Tensor:
        return torch.rand(scores.shape, generator=generator, dtype=scores.dtype)

    return Importance(
        drawn(importance.mlp),
        drawn(importance.heads),
        drawn(importance.width),
        drawn(importance.layers),
        importance.energy,
        importance.nll,
    )


def every(layers: int, kept: int) -> Tensor:
    """Scores that keep evenly spaced blocks, the last among them (BiStil: every second).

    Args:
        layers: Blocks there are.
        kept: Blocks that stay.
    """
    scores = torch.zeros(layers, dtype=torch.float64)
    scores[[(number + 1) * layers // kept - 1 for number in range(kept)]] = 1
    return scores


@torch.no_grad()
def prune(
    model: AutoregressiveModel, anatomy: Anatomy, keep: dict[str, int], importance: Importance
) -> AutoregressiveModel:
    """A smaller model with the weights of the parts that do most.

    All that read or write a unit are cut together. A norm divides by the mean over channels, so
    with fewer its weight is multiplied by the share of the kept channels in that mean on the
    calibration data: without that, even cutting channels that are always zero would change the
    network. (The released code leaves norms as they are.)

    Args:
        model: Stays as it is.
        anatomy: Of its network.
        keep: How many ``layers``, ``width``, ``mlp`` and ``heads`` stay; all that are not named.
        importance: Of its parts.

    Raises:
        InputError: A number does not fit the network.
    """
    sizes = anatomy.after(keep)
    kept = choose(anatomy, sizes, importance)
    with torch.random.fork_rng():  # the smaller network draws weights that are never used
        network = anatomy.smaller(sizes, kept.layers)
    network.to(next(model.network.parameters()))
    network.load_state_dict(_cut(model.network, anatomy, kept, importance.energy))
    smaller = rebuilt(model, network=network)
    return smaller.train(model.training)


def _cut(network: nn.Module, anatomy: Anatomy, kept: Kept, energy: Tensor) -> dict[str, Tensor]:
    state = dict(network.state_dict())
    for axis in anatomy.width:
        state[axis.tensor] = selected(state[axis.tensor], axis, kept.width)
    share = energy[:, kept.width].mean(dim=1) / energy.mean(dim=1)
    for norm, factor in zip(anatomy.norms, share.sqrt().tolist(), strict=True):
        state[f"{norm}.weight"] = state[f"{norm}.weight"] * factor
    for place, layer in enumerate(kept.layers):
        block = anatomy.blocks[layer]
        for axes, units, size in (
            (block.mlp, kept.mlp[place], 1),
            (block.heads, kept.heads[place], anatomy.head_width),
            (block.groups, kept.groups[place], anatomy.head_width),
        ):
            for axis in axes:
                state[axis.tensor] = selected(state[axis.tensor], axis, units, size)
    renamed = {f"{anatomy.blocks[layer].name}.": place for place, layer in enumerate(kept.layers)}
    gone = {f"{block.name}." for block in anatomy.blocks} - renamed.keys()
    found = {}
    for name, tensor in state.items():
        if any(name.startswith(prefix) for prefix in gone):
            continue
        own = next((prefix for prefix in renamed if name.startswith(prefix)), None)
        if own is not None:
            name = anatomy.blocks[renamed[own]].name + "." + name.removeprefix(own)
        found[name] = tensor
    return found
