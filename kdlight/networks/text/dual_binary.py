"""Weights of two binary planes: two bits each, and two scales a group (DB-LLM, 2402.11960)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded, rebuilt
from kdlight.errors import InputError

HEADS = ("head", "lm_head")
"""Last names of the layers that stay as they are."""
CANDIDATES = 40
"""Steps of which the best is the first one of a group."""
APART = 1e-3
"""How near two levels may come, as a share of the larger scale."""

LEAST = 1e-8
"""Size of a scale at least."""


def grouped(values: Tensor, group: int) -> Tensor:
    """Rows (N, n) cut into groups, (N, n / group, group)."""
    return values.reshape(len(values), -1, group)


def planes(weight: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """The planes b1 and b2 of weights, (..., G) bool (equations 4 and 5).

        b1 = [w > (a1 + a2) / 2],  b2 = [w < a1 b1 + a2 / 2]

    With a1 > -a2 > 0 the value ``a1 b1 + a2 b2`` is the nearest of a2, 0, a1 + a2 and a1; where
    both scales have the other sign, all is mirrored. (The bracket matters: one public program has
    ``-(w - a1 b1) - a2 / 2``, whose second threshold lies on the wrong side.)

    Args:
        weight: (..., G).
        scales: a1 and a2 of a group, (..., 2).
    """
    sign = scales[..., :1].sign()
    first, second = (sign * scales).unsqueeze(-2).unbind(dim=-1)
    mirrored = sign * weight
    one = mirrored > (first + second) / 2
    return one, mirrored < first * one + second / 2


def valued(one: Tensor, two: Tensor, scales: Tensor) -> Tensor:
    """``a1 b1 + a2 b2``, (..., G)."""
    first, second = scales.unsqueeze(-2).unbind(dim=-1)
    return first * one + second * two


def first_scales(weight: Tensor) -> Tensor:
    """The start (2s, -s) of every group, (..., 2): levels -s, 0, s and 2s, or mirrored.

    Of ``CANDIDATES`` steps s up to the largest weight, and both signs, the one with the smallest
    squared error. (A public program takes half the largest weight, and one sign.)

    Args:
        weight: (..., G).
    """
    largest = weight.abs().amax(dim=-1).clamp(min=torch.finfo(weight.dtype).tiny)
    best = torch.full_like(largest, math.inf)
    found = torch.stack([largest, -largest / 2], dim=-1)
    for step in range(1, CANDIDATES + 1):
        for sign in (1.0, -1.0):
            size = sign * largest * step / CANDIDATES
            scales = torch.stack([2 * size, -size], dim=-1)
            error = (valued(*planes(weight, scales), scales) - weight).square().sum(dim=-1)
            better = error < best
            best = torch.where(better, error, best)
            found = torch.where(better[..., None], scales, found)
    return found


class DualBinaryLinear(nn.Module):
    """A linear layer that rounds its weights to the values of two planes.

    The weights stay what they were; scales alone are trained, with the planes of the moment, which
    follow them.

    Args:
        linear: Whose weights are rounded.
        group: Weights of an output that share scales.
    """

    def __init__(self, linear: nn.Linear, group: int) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("weight", linear.weight.detach().clone())
        self.scales = nn.Parameter(first_scales(self._grouped()))
        self.bias = linear.bias

    weight: Tensor

    def _grouped(self) -> Tensor:
        return grouped(self.weight, self.group)

    def bits(self) -> tuple[Tensor, Tensor]:
        """Both planes, (out, groups, group) bool."""
        with torch.no_grad():
            return planes(self._grouped(), self.scales)

    def forward(self, hidden: Tensor) -> Tensor:
        weight = valued(*self.bits(), self.scales).flatten(1)
        return nn.functional.linear(hidden, weight, self.bias)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep the order of the levels, without which rounding is not to the nearest."""
        sign = self.scales[..., 0].sign()
        sign = torch.where(sign == 0, 1.0, sign)
        second = (-sign * self.scales[..., 1]).clamp(min=LEAST)
        first = torch.maximum(sign * self.scales[..., 0], second * (1 + APART))
        self.scales.copy_(torch.stack([sign * first, -sign * second], dim=-1))


class PackedLinear(nn.Module):
    """The same with two bits a weight, which are unpacked whenever it is called.

    Args:
        inputs: Channels that go in.
        outputs: Channels that come out.
        bias: Whether it has one.
        group: Weights of an output that share scales.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool, group: int) -> None:
        super().__init__()
        self.inputs, self.group = inputs, group
        size = (outputs, -(-inputs // 8))
        self.register_buffer("one", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("two", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("scales", torch.zeros(outputs, inputs // group, 2))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    one: Tensor
    two: Tensor
    scales: Tensor
    bias: Tensor | None

    def forward(self, hidden: Tensor) -> Tensor:
        bits = (unpacked(each, self.inputs) for each in (self.one, self.two))
        one, two = (grouped(each, self.group) for each in bits)
        weight = valued(one, two, self.scales).flatten(1)
        return nn.functional.linear(hidden, weight, self.bias)


def packed_bits(bits: Tensor) -> Tensor:
    """Eight of (N, n) bool a byte, the first the lowest, (N, ceil(n / 8)) uint8."""
    padded = grouped(nn.functional.pad(bits, (0, -bits.shape[1] % 8)), 8).to(torch.uint8)
    powers = (2 ** torch.arange(8, device=bits.device)).to(torch.uint8)
    total: Tensor = (padded * powers).sum(dim=2, dtype=torch.uint8)
    return total


def unpacked(packed: Tensor, count: int) -> Tensor:
    """The first ``count`` bits of every row of :func:`packed_bits`, (N, count) bool."""
    places = torch.arange(8, device=packed.device, dtype=torch.uint8)
    return ((packed[..., None] >> places) & 1).bool().flatten(1)[:, :count]


class _Swapped(Recorded, nn.Module):
    """A network with layers of another kind in the place of its linear ones, but for heads."""

    def __init__(self, network: nn.Module, group: PositiveInt) -> None:
        super().__init__()
        self.network, self.group = network, group
        for name, linear in linears(network, group):
            owner = network.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], self.made(linear))

    def made(self, linear: nn.Linear) -> nn.Module:
        """The layer in the place of a linear one."""
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of tokens, as the network gives them."""
        return self.network(tokens)  # type: ignore[no-any-return]


class DualBinary(_Swapped):
    """A network whose linear layers, but for heads, have weights of two planes; scales learn.

    Args:
        network: With its weights; it is changed.
        group: Weights of an output that share scales.

    Raises:
        InputError: It has no linear layer, or one that groups do not fill.
    """

    def __init__(self, network: nn.Module, group: PositiveInt = 64) -> None:
        network.requires_grad_(False)
        super().__init__(network, group)

    def made(self, linear: nn.Linear) -> nn.Module:
        return DualBinaryLinear(linear, self.group)


class PackedBinary(_Swapped):
    """A :class:`DualBinary` network that holds two bits a weight and cannot be trained.

    Args:
        network: Of the same kind; the weights of its linear layers are dropped.
        group: Weights of an output that share scales.
    """

    def __init__(self, network: nn.Module, group: PositiveInt = 64) -> None:
        super().__init__(network, group)

    def made(self, linear: nn.Linear) -> nn.Module:
        return PackedLinear(
            linear.in_features, linear.out_features, linear.bias is not None, self.group
        )


def linears(network: nn.Module, group: int) -> Sequence[tuple[str, nn.Linear]]:
    """Names of the linear layers that are no heads, and the layers.

    Raises:
        InputError: There is none, or groups do not fill one.
    """
    found = [
        (name, each)
        for name, each in network.named_modules()
        if isinstance(each, nn.Linear) and name.rpartition(".")[2] not in HEADS
    ]
    if not found:
        raise InputError(
            f"network: expected linear layers beside the head, found none in "
            f"{type(network).__name__}."
        )
    for name, each in found:
        if each.in_features % group:
            raise InputError(
                f"group: expected a divisor of the {each.in_features} inputs of {name}, found "
                f"{group}."
            )
    return found


@torch.no_grad()
def packed(network: DualBinary) -> PackedBinary:
    """The same network with two bits a weight, and equal logits."""
    assert isinstance(network.network, Recorded)
    with torch.random.fork_rng():  # draws weights that are never used
        small = PackedBinary(rebuilt(network.network), network.group)
    small.to(next(network.parameters()))
    state = dict(network.state_dict())
    for name, layer in network.named_modules():
        if isinstance(layer, DualBinaryLinear):
            del state[f"{name}.weight"]
            for plane, bits in zip(("one", "two"), layer.bits(), strict=True):
                state[f"{name}.{plane}"] = packed_bits(bits.flatten(1))
    small.load_state_dict(state)
    return small.train(network.training)
