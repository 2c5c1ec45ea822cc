"""What a causal transformer is made of, as far as it can be cut."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlight.errors import InputError


class Axis(NamedTuple):
    """An axis of a tensor along which units lie.

    Attributes:
        tensor: Name in the network's state dict.
        dim: The axis.
        parts: Equal parts of the axis that hold every unit once each, as in a fused projection.
    """

    tensor: str
    dim: int
    parts: int = 1


def axes(dim: int, *tensors: str, parts: int = 1) -> tuple[Axis, ...]:
    """The same axis of several tensors."""
    return tuple(Axis(each, dim, parts) for each in tensors)


@dataclass(frozen=True)
class Sizes:
    """How large a transformer is.

    Attributes:
        layers: Blocks.
        width: Channels of a token between blocks.
        mlp: Hidden units of a perceptron.
        heads: Attention heads (of queries) of a block.
    """

    layers: int
    width: int
    mlp: int
    heads: int


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        name: The module.
        behind_heads: The projection whose input are the heads' outputs, head after head.
        behind_mlp: The projection whose input are the hidden units.
        mlp: Where hidden units lie.
        heads: Where heads lie, ``head_width`` places each.
        groups: Where keys and values lie that ``heads / groups`` heads share each; empty where
            they lie beside the queries.
    """

    name: str
    behind_heads: str
    behind_mlp: str
    mlp: tuple[Axis, ...]
    heads: tuple[Axis, ...]
    groups: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Anatomy:
    """Where the units of a network lie.

    Attributes:
        sizes: How large it is.
        groups: Groups of heads with keys and values of their own.
        head_width: Channels of a head.
        blocks: From the first to the last.
        width: Where channels lie, in all tensors of all blocks.
        norms: Modules that divide by what all channels have in common, in the order of calls.
        smaller: Makes a network of other sizes out of these blocks, without its weights.
        square: Whether heads have as many channels together as a token has.
    """

    sizes: Sizes
    groups: int
    head_width: int
    blocks: tuple[Block, ...]
    width: tuple[Axis, ...]
    norms: tuple[str, ...]
    smaller: Callable[[Sizes, list[int]], nn.Module]
    square: bool = False

    @property
    def share(self) -> int:
        """Heads of a group."""
        return self.sizes.heads // self.groups

    def after(self, keep: dict[str, int]) -> Sizes:
        """The sizes after a cut.

        Args:
            keep: How many stay, by the names in :class:`Sizes`; what is not named stays whole.

        Raises:
            InputError: A name is unknown, or a number does not fit the network.
        """
        for name, number in keep.items():
            known = [each.name for each in fields(Sizes)]
            if name not in known:
                raise InputError(f"keep: expected some of {', '.join(known)}, found {name!r}.")
            there = getattr(self.sizes, name)
            if not 1 <= number <= there:
                raise InputError(f"keep: {name}: expected 1 to {there}, found {number}.")
        sizes = replace(self.sizes, **keep)
        if sizes.heads % self.share:
            raise InputError(
                f"keep: heads: expected a multiple of the {self.share} that share a key, found "
                f"{sizes.heads}."
            )
        if self.square and sizes.width != sizes.heads * self.head_width:
            raise InputError(
                f"keep: expected a width of {self.head_width} a head in this kind of network, "
                f"found width={sizes.width} and heads={sizes.heads}."
            )
        return sizes


def selected(tensor: Tensor, axis: Axis, kept: Tensor, size: int = 1) -> Tensor:
    """A tensor without the units that are not kept.

    Args:
        tensor: Any.
        axis: Along which of its axes units lie.
        kept: Numbers of the units, (k,) int64.
        size: Places of a unit.
    """
    numbered = torch.arange(tensor.shape[axis.dim], device=tensor.device)
    places = numbered.reshape(axis.parts, -1, size)[:, kept.to(tensor.device)].flatten()
    return tensor.index_select(axis.dim, places)
