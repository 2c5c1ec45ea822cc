"""Picture files: found in folders, and decoded alike wherever they are read."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.folders import files_below

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
GREY = ("1", "L", "LA", "La")
FLOATING = "floating-point pixels, which have no known range"
TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")


def find_pictures(folder: Path) -> list[Path]:
    """Picture files below a folder by their names: see :func:`~.folders.files_below`."""
    return files_below(folder, SUFFIXES)


def is_grey(path: Path) -> bool:
    """Whether a picture's format has no colour; a palette counts as colour.

    Raises:
        Exception: Anything that a decoder raises on a broken file.
    """
    with Image.open(path) as picture:
        return picture.mode in GREY or picture.mode.startswith("I")


def open_picture(source: Path | BytesIO, channels: int, bit_depth: int = 16) -> Image.Image:
    """Decode a picture as 8-bit grey (1 channel) or RGB (3 channels).

    The camera's rotation is applied; transparent parts become white, as a page shows them (a
    bare conversion would uncover whatever colour lies beneath); 16-bit grey is scaled to 8.

    Args:
        source: The file.
        channels: 1 or 3.
        bit_depth: Bits that grey of more than 8 uses: of a scan, often 12.

    Raises:
        ValueError: Floating-point pixels, whose range nothing tells.
        Exception: Anything that a decoder raises on a broken file.
    """
    with Image.open(source) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode == "F":
        raise ValueError(FLOATING)
    if picture.mode.startswith("I"):  # I;16 and its byte orders; I holds 16 bits in 32
        wide = np.asarray(picture).astype(np.int64)
        white = 2**bit_depth - 1
        picture = Image.fromarray((wide.clip(0, white) * 255 // white).astype(np.uint8))
    if picture.mode in TRANSPARENT or "transparency" in picture.info:
        page = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", page.size, "white"), page)
    # Not every mode (LAB, for one) has a direct way to grey.
    colour = picture if picture.mode in ("1", "L") else picture.convert("RGB")
    return colour.convert("L" if channels == 1 else "RGB")


def open_declared(source: Path | BytesIO, channels: int, bit_depth: int | None) -> Image.Image:
    """:func:`open_picture` of data that nobody has looked through before.

    Args:
        source: The file.
        channels: 1 or 3.
        bit_depth: Bits that grey of more than 8 uses; None expects no such picture.

    Raises:
        InputError: Grey of more than 8 bits, and its bits are not said, or fewer than it has.
        Exception: Anything that a decoder raises on a broken file.
    """
    with Image.open(source) as picture:
        if picture.mode.startswith("I"):
            largest = int(np.asarray(picture).max())
            if bit_depth is None:
                raise InputError(
                    f"bit_depth: expected the bits of grey pictures, as one of more than 8 bits "
                    f"is there, its largest value {largest}: 16, or 12 of many scans; found null."
                )
            check_depth(largest, 1, bit_depth, "a picture")
    return open_picture(source, channels, bit_depth or 16)


def check_depth(largest: int, count: int, bit_depth: int | None, where: str) -> None:
    """Complain if grey values of more than 8 bits are not of the depth that is expected.

    Args:
        largest: The largest of their values.
        count: Of how many pictures.
        bit_depth: Bits that are expected; None expects 16.
        where: Where the pictures are.

    Raises:
        InputError: They are not.
    """
    bits = largest.bit_length()
    if bit_depth is None and bits != 16:
        raise InputError(
            f"{where}: expected 16-bit grey values up to 65535, found {largest} as the largest of "
            f"{count} pictures; their bits are a setting, bit_depth: {max(bits, 1)}."
        )
    if bit_depth is not None and bits > bit_depth:
        raise InputError(
            f"bit_depth: expected values up to {2**bit_depth - 1} in {where}, found {largest}."
        )


def largest_value(path: Path) -> int | None:
    """The largest value of a grey picture of more than 8 bits; None for all others.

    The whole file is decoded, as cheaply as its format allows.

    Raises:
        ValueError: Floating-point pixels, whose range nothing tells.
        Exception: Anything that a decoder raises on a broken file.
    """
    with Image.open(path) as picture:
        picture.draft("RGB", (1, 1))  # JPEG: read everything, but decode at an eighth
        picture.load()
        if picture.mode == "F":
            raise ValueError(FLOATING)
        return int(np.asarray(picture).max()) if picture.mode.startswith("I") else None


def reason(error: Exception) -> str:
    """Why a picture was not read, in the words for a user."""
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"more than Pillow's limit of {limit:,} pixels (make them smaller)"
    if isinstance(error, UnidentifiedImageError):
        return "no picture"
    if isinstance(error, FileNotFoundError):
        return "a link to nothing"
    if isinstance(error, PermissionError):
        return "no permission to read"
    return FLOATING if FLOATING in str(error) else "damaged"


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as bytes 0 to 255, rounded and clamped, as EDM writes its samples.

    OpenAI's programs round down: their bytes are one lower in half of all pixels.
    """
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """Bytes 0 to 255 as float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)
