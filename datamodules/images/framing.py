"""Pictures of any shape as squares of one size."""

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
    """How a picture of any shape becomes a square one.

    Attributes:
        size: Side of the result, pixels.
        channels: 1 or 3.
        resize: The short side is resized to this before the crop; ``size`` if None.
        crop: Where the square is cut when training; at other times from the centre.
        flip: Whether half of the training pictures are mirrored.
    """

    size: int
    channels: int = 3
    resize: int | None = None
    crop: Literal["center", "random"] = "center"
    flip: bool = False

    def __post_init__(self) -> None:
        positive("size", self.size)
        if self.channels not in (1, 3):
            raise InputError(f"channels: expected 1 or 3, found {self.channels}.")
        if self.resize is not None:
            positive("resize", self.resize, self.size)

    def scale(self, picture: Image.Image) -> Tensor:
        """Resize the short side (bicubic, antialiased); (C, H, W) uint8."""
        factor = (self.resize or self.size) / min(picture.size)
        width, height = (max(self.size, round(side * factor)) for side in picture.size)
        scaled = picture.resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(scaled)).reshape(height, width, self.channels)
        return pixels.permute(2, 0, 1).contiguous()

    def cut(self, scaled: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Crop and mirror (C, H, W) uint8 to (C, size, size).

        Args:
            scaled: What :meth:`scale` gave.
            generator: Source of the random choices; without one, the centre as it is.
        """
        _, height, width = scaled.shape
        rows, columns = height - self.size, width - self.size
        top, left = rows // 2, columns // 2
        if generator is not None and self.crop == "random":
            top = int(torch.randint(rows + 1, (), generator=generator))
            left = int(torch.randint(columns + 1, (), generator=generator))
        square = scaled[:, top : top + self.size, left : left + self.size]
        mirrored = generator is not None and self.flip and torch.rand((), generator=generator) < 0.5
        return square.flip(-1) if mirrored else square
