"""Pictures of any shape as rectangles of one size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.order import positive
from kdlight.errors import InputError


@dataclass(frozen=True)
class Framing:
    """How a picture of any shape becomes one of a given size.

    Attributes:
        size: Height and width of the result, pixels; one number if square.
        channels: 1 or 3.
        resize: The picture is resized until it covers a frame with this short side before the
            crop; the short side of ``size`` if None.
        crop: Where the result is cut when training; at other times from the centre.
        flip: Whether half of the training pictures are mirrored.
    """

    size: int | Sequence[int]
    channels: int = 3
    resize: int | None = None
    crop: Literal["center", "random"] = "center"
    flip: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) and len(self.size) != 2:
            raise InputError(f"size: expected a side or [height, width], found {self.size}.")
        for side in self.shape[1:]:
            positive("size", side)
        if self.channels not in (1, 3):
            raise InputError(f"channels: expected 1 or 3, found {self.channels}.")
        if self.resize is not None:
            positive("resize", self.resize, min(self.shape[1:]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the result, (C, H, W)."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.channels, height, width

    def scale(self, picture: Image.Image) -> Tensor:
        """Resize to cover the frame (bicubic, antialiased); (C, H, W) uint8."""
        _, height, width = self.shape
        larger = 1.0 if self.resize is None else self.resize / min(height, width)
        factor = larger * max(height / picture.height, width / picture.width)
        rows = max(height, round(picture.height * factor))
        columns = max(width, round(picture.width * factor))
        scaled = picture.resize((columns, rows), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(scaled)).reshape(rows, columns, self.channels)
        return pixels.permute(2, 0, 1).contiguous()

    def cut(self, scaled: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Crop and mirror uint8 of any size to the frame, (C, H, W).

        Args:
            scaled: What :meth:`scale` gave.
            generator: Source of the random choices; without one, the centre as it is.
        """
        _, height, width = self.shape
        rows, columns = scaled.shape[1] - height, scaled.shape[2] - width
        top, left = rows // 2, columns // 2
        if generator is not None and self.crop == "random":
            top = int(torch.randint(rows + 1, (), generator=generator))
            left = int(torch.randint(columns + 1, (), generator=generator))
        frame = scaled[:, top : top + height, left : left + width]
        mirrored = generator is not None and self.flip and torch.rand((), generator=generator) < 0.5
        return frame.flip(-1) if mirrored else frame
