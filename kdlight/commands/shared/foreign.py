"""Samples that any program made, from a file or a folder of images."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.pictures import (
    check_depth,
    find_pictures,
    is_grey,
    largest_value,
    open_picture,
    to_float,
)


def read_samples(path: Path, bit_depth: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Samples (N, C, H, W) in [-1, 1] and their labels, from a file or a folder of images.

    Args:
        path: The file or the folder.
        bit_depth: Bits that grey pictures of more than 8 bits use; None expects 16.

    Raises:
        InputError: There is nothing there, or something else.
    """
    contents = {"image": read_folder(path, bit_depth)} if path.is_dir() else read_tensors(path)
    image, label = contents["image"], contents.get("label")
    channels = (1, 3)
    if image.ndim == 4 and image.shape[1] not in channels and image.shape[3] in channels:
        raise InputError(
            f"--samples {path}: expected images of shape (N, C, H, W), found "
            f"{tuple(image.shape)}, as if the channels came last."
        )
    if not image.is_floating_point() or image.ndim < 2 or len(image) < 2:
        raise InputError(
            f"--samples {path}: expected at least 2 images of floating-point pixels in [-1, 1], "
            f"found {image.dtype} of shape {tuple(image.shape)}."
        )
    if not image.isfinite().any():
        raise InputError(f"--samples {path}: expected finite pixels, found none.")
    finite = image[image.isfinite()]
    low, high = float(finite.min()), float(finite.max())
    # Of pictures in [-1, 1] some pixel is darker than middle grey; all zeros are a dead model's.
    if image.ndim == 4 and low >= 0 and high > 0:
        raise InputError(
            f"--samples {path}: expected pixels in [-1, 1], found {low:g} to {high:g}, as if black "
            f"were 0: {'x / 127.5' if high > 1 else '2 * x'} - 1 converts them."
        )
    if label is not None and (label.is_floating_point() or label.shape != image.shape[:1]):
        raise InputError(
            f"--samples {path}: expected a whole number as the label of each of {len(image)} "
            f"images, found {label.dtype} of shape {tuple(label.shape)}."
        )
    return image.float(), label


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What ``sample`` writes: ``image``, and ``label`` if there are classes."""
    require_file(path)
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                contents = {name: torch.from_numpy(archive[name]) for name in archive.files}
        else:
            contents = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(contents, dict) or not isinstance(contents["image"], Tensor):
            raise TypeError
    except Exception:  # every way a file can be damaged raises a different type
        raise InputError(
            f"--samples {path}: expected a .pt or .npz with an 'image' tensor, "
            f"found something else, or a truncated file."
        ) from None
    return {name: value for name, value in contents.items() if isinstance(value, Tensor)}


def read_folder(path: Path, bit_depth: int | None) -> Tensor:
    """All pictures below a folder, which must be of one size, all grey or all in colour."""
    files = find_pictures(path)
    if not files:
        raise InputError(
            f"--samples {path}: expected PNG or JPEG images, or other pictures, found none."
        )
    pictures = [read_picture(file, bit_depth or 16) for file in files]
    values = [value for value in map(largest_value, files) if value is not None]
    if values:
        check_depth(max(values), len(values), bit_depth, f"--samples {path}")
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise InputError(
                f"{file}: expected a picture of shape {tuple(pictures[0].shape)} like "
                f"{files[0].name}, found {tuple(picture.shape)}."
            )
    return torch.stack(pictures)


def read_picture(path: Path, bit_depth: int) -> Tensor:
    """A picture as (C, H, W) in [-1, 1], decoded as those of a data set; grey stays grey."""
    try:
        pixels = np.array(open_picture(path, 1 if is_grey(path) else 3, bit_depth))
    except Exception:  # a broken file can raise nearly anything in a decoder
        raise InputError(f"{path}: expected a picture, found something else.") from None
    return to_float(torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1))
