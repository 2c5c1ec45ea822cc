"""Which blocks a published U-Net has, in order, and what the files call them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.images.edm.resampling import Direction

Kind = Literal["conv", "block", "down", "up", "in0", "in1"]


@dataclass(frozen=True)
class Stage:
    """One entry of an encoder or a decoder.

    Attributes:
        name: Its name in the files, such as ``16x16_block0``.
        kind: The first convolution, a block at its resolution, one that halves or doubles, or one
            of the two at the bottom.
        height: Height of what it puts out.
        in_channels: Channels that it takes, those of a skip connection included.
        out_channels: Channels that it puts out.
        skip: Channels that come from a skip connection.
        last: Whether it is the last block of its resolution.
        resample: Whether it halves or doubles height and width.
    """

    name: str
    kind: Kind
    height: int
    in_channels: int
    out_channels: int
    skip: int = 0
    last: bool = False

    @property
    def resample(self) -> Direction | None:
        return self.kind if self.kind in ("down", "up") else None


def shape_of(size: int | Sequence[int], levels: int) -> tuple[int, int]:
    """Height and width, checked.

    Raises:
        InputError: They cannot be halved that often.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height % 2 ** (levels - 1) or width % 2 ** (levels - 1):
        raise InputError(
            f"size: expected multiples of {2 ** (levels - 1)} for {levels} resolutions, "
            f"found {height} x {width}."
        )
    return height, width


def encoder_stages(
    size: tuple[int, int], channels: int, first: int, widths: Sequence[int], num_blocks: int
) -> list[Stage]:
    """Stages from the full resolution down; what each puts out is kept for the decoder.

    Args:
        size: Height and width of the image.
        channels: Channels of what the first convolution takes.
        first: Channels of what it puts out.
        widths: Channels of each resolution.
        num_blocks: Blocks at each resolution.
    """
    stages, now = [], first
    for level, width in enumerate(widths):
        height = size[0] >> level
        name = f"{height}x{size[1] >> level}"
        if level == 0:
            stages.append(Stage(f"{name}_conv", "conv", height, channels, first))
        else:
            stages.append(Stage(f"{name}_down", "down", height, now, now))
        for index in range(num_blocks):
            last = index == num_blocks - 1
            stages.append(Stage(f"{name}_block{index}", "block", height, now, width, last=last))
            now = width
    return stages


def decoder_stages(
    size: tuple[int, int], encoded: Sequence[Stage], widths: Sequence[int], num_blocks: int
) -> list[Stage]:
    """Stages from the bottom up; each ``block`` takes the latest skip that is left.

    Args:
        size: Height and width of the image.
        encoded: The encoder.
        widths: Channels of each resolution, from the full one down.
        num_blocks: Blocks at each resolution of the encoder; the decoder has one more.
    """
    stages, now = [], encoded[-1].out_channels
    skips = [stage.out_channels for stage in encoded]
    for level in reversed(range(len(widths))):
        height = size[0] >> level
        name = f"{height}x{size[1] >> level}"
        if level == len(widths) - 1:
            stages.append(Stage(f"{name}_in0", "in0", height, now, now))
            stages.append(Stage(f"{name}_in1", "in1", height, now, now))
        else:
            stages.append(Stage(f"{name}_up", "up", height, now, now))
        for index in range(num_blocks + 1):
            skip = skips.pop()
            stages.append(
                Stage(
                    f"{name}_block{index}",
                    "block",
                    height,
                    now + skip,
                    widths[level],
                    skip,
                    index == num_blocks,
                )
            )
            now = widths[level]
    return stages


def one_hot(condition: Condition, num_classes: int, null_class: bool, x: Tensor) -> Tensor:
    """Labels as rows with a single one, (B, num_classes), in the precision of ``x``.

    The label ``num_classes``, or a missing one, is a row of zeros where the network knows it.

    Raises:
        InputError: The label is missing and the network was trained without such rows.
    """
    label = condition.get("label")
    if label is None and not null_class:
        raise InputError("label: this network has no class for a missing label.")
    if label is None:
        return x.new_zeros(len(x), num_classes)
    return nn.functional.one_hot(label, num_classes + 1)[:, :num_classes].to(x.dtype)


def augmentation(condition: Condition, dim: int, x: Tensor) -> Tensor:
    """The augmentation vector (B, dim); a missing one is zero, "not augmented"."""
    augment = condition.get("augment")
    # Not skipped: every parameter has its gradient, whatever the batch holds.
    return x.new_zeros(len(x), dim) if augment is None else augment.to(x.dtype)


def initialise_xavier(network: nn.Module, gains: dict[str, float]) -> None:
    """Xavier uniform weights and zero biases for all convolutions and linear layers.

    Args:
        network: What to initialise.
        gains: Factors on the weights, by how the layer's name ends; 1 for the others.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            gain = next((value for end, value in gains.items() if name.endswith(end)), 1.0)
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def sines_first(features: Tensor) -> Tensor:
    """Cosines before sines, (N, dim), turned into sines before cosines."""
    return torch.cat(features.chunk(2, dim=1)[::-1], dim=1)
