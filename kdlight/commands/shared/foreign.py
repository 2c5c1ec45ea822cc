"""Samples that any program made, from a file or a folder of images, read in batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.arrays import ArrayImages, holds_images
from kdlight.storage.files import kind_of, require_file
from kdlight.storage.pictures import (
    check_depth,
    find_pictures,
    is_grey,
    largest_value,
    open_picture,
    reason,
    to_float,
)


class Part(NamedTuple):
    """A batch of samples.

    Attributes:
        image: (B, C, H, W) or points (B, d), float32; images in [-1, 1].
        label: Labels (B,), int64; None if there are none.
    """

    image: Tensor
    label: Tensor | None


class GivenSamples:
    """What ``--samples`` names: a folder of pictures, OpenAI's ``.npz``, or what ``sample`` writes.

    Pictures and OpenAI's files are read in batches; tensors are held, having been checked.

    Args:
        path: The file or folder.
        bit_depth: Bits that grey pictures of more than 8 bits use; None expects 16.

    Attributes:
        shape: Shape of one sample.
        labelled: Whether they have labels.

    Raises:
        InputError: There is nothing there, or something else.
    """

    def __init__(self, path: Path, bit_depth: int | None = None) -> None:
        self.path = path
        self._bits = bit_depth or 16
        self._files: list[Path] = []
        self._arrays: ArrayImages | None = None
        self._tensors: dict[str, Tensor] = {}
        self.labelled = False
        if path.is_dir():
            self._files = find_pictures(path)
            if not self._files:
                raise InputError(
                    f"--samples {path}: expected PNG or JPEG images, or other pictures, found none."
                )
            values = [value for value in map(largest, self._files) if value is not None]
            if values:
                check_depth(max(values), len(values), bit_depth, f"--samples {path}")
            first = read_picture(self._files[0], self._bits)
            count, self.shape = len(self._files), tuple(first.shape)
        elif path.suffix.lower() == ".npz" and holds_images(path):
            self._arrays = ArrayImages(path)
            count, self.shape = len(self._arrays), self._arrays.shape
            self.labelled = self._arrays.labels is not None
        else:
            self._tensors = checked(path, read_tensors(path))
            image = self._tensors["image"]
            count, self.shape = len(image), tuple(image.shape[1:])
            self.labelled = "label" in self._tensors
        if count < 2:
            raise InputError(f"--samples {path}: expected at least 2 images, found {count}.")
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int) -> Iterator[Part]:
        """The samples in order, at most ``size`` at a time.

        Raises:
            InputError: A picture cannot be read, or is of another shape than the first.
        """
        labels = self._arrays.labels if self._arrays else self._tensors.get("label")
        for index, image in enumerate(self._images(size)):
            part = slice(index * size, (index + 1) * size)
            yield Part(image, None if labels is None else labels[part])

    def _images(self, size: int) -> Iterator[Tensor]:
        if self._arrays is not None:
            yield from (to_float(pixels) for pixels in self._arrays.batches(size))
        elif self._files:
            for start in range(0, self.count, size):
                yield torch.stack([self._picture(f) for f in self._files[start : start + size]])
        else:
            yield from (part.float() for part in torch.split(self._tensors["image"], size))

    def _picture(self, file: Path) -> Tensor:
        picture = read_picture(file, self._bits)
        if tuple(picture.shape) != self.shape:
            raise InputError(
                f"{file}: expected a picture of shape {self.shape} like "
                f"{self._files[0].name}, found {tuple(picture.shape)}."
            )
        return picture


def checked(path: Path, contents: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of samples and labels, if they are such.

    Raises:
        InputError: They are not, or black is 0 in them.
    """
    image, label = contents["image"], contents.get("label")
    channels = (1, 3)
    if image.ndim == 4 and image.shape[1] not in channels and image.shape[3] in channels:
        raise InputError(
            f"--samples {path}: expected images of shape (N, C, H, W), found "
            f"{tuple(image.shape)}, as if the channels came last."
        )
    if image.layout != torch.strided:
        raise InputError(f"--samples {path}: expected plain numbers, found {kind_of(image)}.")
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
    return contents


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What ``sample`` writes as a ``.pt``: ``image``, and ``label`` if there are classes."""
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


def largest(path: Path) -> int | None:
    """:func:`largest_value` of a picture.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return largest_value(path)
    except Exception as error:  # a broken file can raise nearly anything in a decoder
        raise InputError(f"{path}: cannot be read: {reason(error)}.") from None


def read_picture(path: Path, bit_depth: int) -> Tensor:
    """A picture as (C, H, W) in [-1, 1], decoded as those of a data set; grey stays grey."""
    try:
        pixels = np.array(open_picture(path, 1 if is_grey(path) else 3, bit_depth))
    except Exception as error:  # a broken file can raise nearly anything in a decoder
        raise InputError(f"{path}: cannot be read: {reason(error)}.") from None
    return to_float(torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1))
