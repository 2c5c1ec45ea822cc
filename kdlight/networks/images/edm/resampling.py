"""Halving and doubling of images by a separable filter (Zhang 2019, arXiv:1904.11486)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.errors import InputError

Direction = Literal["down", "up"]


class Resample(nn.Module):
    """Filter each channel and keep every second pixel, or put zeros between pixels and filter.

    Beyond the border lie zeros, so that a filter longer than two taps darkens it. With two equal
    taps this is the mean of 2 x 2 pixels, or their repetition.

    Args:
        taps: The filter along one axis, of even length and any positive sum.
        direction: ``down`` halves height and width, ``up`` doubles them.
        padding: Zeros at each border; None takes what keeps the picture in its place.

    Raises:
        InputError: The taps are no such filter.
    """

    kernel: Tensor

    def __init__(
        self, taps: Sequence[float], direction: Direction, padding: int | None = None
    ) -> None:
        super().__init__()
        # The sum's square has to be finite in float32.
        if len(taps) < 2 or len(taps) % 2 or not 0 < sum(taps) < 1e18:
            raise InputError(
                f"taps: expected an even number of them with a positive sum, found {list(taps)}."
            )
        line = torch.tensor(taps, dtype=torch.float32)
        gain = 1 if direction == "down" else 4  # three of four pixels are zeros
        self.register_buffer(
            "kernel", gain * torch.outer(line, line) / line.sum() ** 2, persistent=False
        )
        self.direction = direction
        self.padding = (len(taps) - 1) // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, C, H / 2, W / 2) or (B, C, 2 H, 2 W)."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, -1, -1)
        apply = nn.functional.conv2d if self.direction == "down" else nn.functional.conv_transpose2d
        return apply(x, kernel, stride=2, padding=self.padding, groups=channels)


class ConvThenDown(nn.Conv2d):
    """A 3 x 3 convolution at full resolution whose result is filtered and halved.

    The convolution gives the filter the pixels around the picture that it needs, so that nothing
    is darkened at the border.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        taps: See :class:`Resample`.
    """

    def __init__(self, in_channels: int, out_channels: int, taps: Sequence[float]) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1 + (len(taps) - 1) // 2)
        self.resample = Resample(taps, "down", padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, C', H / 2, W / 2)."""
        return self.resample(super().forward(x))  # type: ignore[no-any-return]
