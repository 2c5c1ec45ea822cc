"""OpenAI's sample files: ``.npz`` with uint8 images (N, H, W, C), ``arr_0``, and labels, ``arr_1``.

Images are read and written in batches, so that 50,000 of them need no memory.
"""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path

IMAGES, LABELS = "arr_0.npy", "arr_1.npy"


def holds_images(path: Path) -> bool:
    """Whether an ``.npz`` has an ``arr_0``, as OpenAI's sample files do."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return IMAGES in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


class ArrayImages:
    """The images of such a file; executes nothing of it.

    Args:
        path: The file.

    Attributes:
        shape: Shape of one image, (C, H, W).
        labels: Labels (N,), int64; None if it has none.

    Raises:
        InputError: ``arr_0`` is no array of uint8 images, or ``arr_1`` no labels for them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive, archive.open(IMAGES) as stream:
            shape, fortran, dtype = self._header(stream)
            right = dtype == np.uint8 and len(shape) == 4 and shape[3] in (1, 3) and not fortran
            if not right or shape[0] < 1:
                raise InputError(
                    f"{path}: expected arr_0 to be uint8 images of shape (N, H, W, 1 or 3), found "
                    f"{dtype} of shape {tuple(shape)}{' in Fortran order' if fortran else ''}."
                )
            self.count, height, width, channels = shape
            self.shape = (channels, height, width)
            self.labels = self._labels(archive)

    def __len__(self) -> int:
        return int(self.count)

    def batches(self, size: int) -> Iterator[Tensor]:
        """The images in order, uint8, (at most ``size``, C, H, W) at a time.

        Raises:
            InputError: The file ends before its images do.
        """
        channels, height, width = self.shape
        with zipfile.ZipFile(self.path) as archive, archive.open(IMAGES) as stream:
            self._header(stream)
            for start in range(0, self.count, size):
                count = min(size, self.count - start)
                try:
                    data = stream.read(count * channels * height * width)
                    pixels = np.frombuffer(data, np.uint8).reshape(count, height, width, channels)
                except (ValueError, zipfile.BadZipFile, EOFError):
                    raise InputError(f"{self.path}: truncated at image {start}.") from None
                yield torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)

    def _header(self, stream: IO[bytes]) -> tuple[Any, bool, Any]:
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                return np.lib.format.read_array_header_1_0(stream)
            return np.lib.format.read_array_header_2_0(stream)
        except ValueError:
            raise InputError(f"{self.path}: expected arr_0 to be an array, found none.") from None

    def _labels(self, archive: zipfile.ZipFile) -> Tensor | None:
        if LABELS not in archive.namelist():
            return None
        with archive.open(LABELS) as stream:
            try:
                values = np.lib.format.read_array(stream, allow_pickle=False)
            except ValueError:
                values = np.zeros(0)
        if values.shape != (self.count,) or values.dtype.kind not in "iu":
            raise InputError(
                f"{self.path}: expected arr_1 to be a whole number for each of {self.count} "
                f"images, found {values.dtype} of shape {values.shape}."
            )
        return torch.from_numpy(values.astype(np.int64))


def write_images(
    path: Path,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    count: int,
    shape: tuple[int, int, int],
) -> None:
    """Write such a file, whole or not at all.

    Args:
        path: Where.
        batches: Images, uint8 (B, C, H, W), and their labels (B,), if any.
        count: Number of all images.
        shape: Shape of one, (C, H, W).
    """
    channels, height, width = shape
    labels: list[Tensor] = []
    description = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
        "fortran_order": False,
        "shape": (count, height, width, channels),
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open(IMAGES, "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, description)
            for images, label in batches:
                stream.write(images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
                labels += [] if label is None else [label]
        if labels:
            with archive.open(LABELS, "w") as stream:
                np.lib.format.write_array(stream, torch.cat(labels).numpy(), allow_pickle=False)
