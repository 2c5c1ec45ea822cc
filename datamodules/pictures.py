"""Picture files to tensors: every mode Pillow reads, at one size."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.order import positive
from kdlight.errors import InputError

TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")


def open_picture(source: Path | BytesIO, channels: int) -> Image.Image:
    """Decode a picture as 8-bit grey (1 channel) or RGB (3 channels).

    The camera's rotation is applied; transparent parts become white, as a page shows them (a
    bare conversion would uncover whatever colour lies beneath); 16-bit grey is scaled to 8.

    Raises:
        ValueError: Floating-point pixels, whose range nothing tells.
        Exception: Anything that a decoder raises on a broken file.
    """
    with Image.open(source) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if picture.mode.startswith("I"):  # I;16 and its byte orders; I holds 16 bits in 32
        wide = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray((wide.clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode in TRANSPARENT or "transparency" in picture.info:
        page = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", page.size, "white"), page)
    # Not every mode (LAB, for one) has a direct way to grey.
    colour = picture if picture.mode in ("1", "L") else picture.convert("RGB")
    return colour.convert("L" if channels == 1 else "RGB")


def is_picture(path: Path) -> bool:
    """Whether the whole file can be decoded, found out as cheaply as its format allows."""
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (1, 1))  # JPEG: read everything, but decode at an eighth
            picture.load()
            return picture.mode != "F"
    except Exception:  # a broken file can raise nearly anything in a decoder
        return False


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


def to_float(pixels: Tensor) -> Tensor:
    """Bytes 0 to 255 as float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)
