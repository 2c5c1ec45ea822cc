"""Images that ``kdlight select`` chose to ask a teacher of, beside those that have a label."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.views import Rows, WrappedDataModule, chosen, labels_of
from datamodules.loader import Data, length_of
from kdlight.selection.files import read_selection
from kdlight.storage.files import require_file


class QueriedDataModule(WrappedDataModule):
    """The training images of a selection, and all that have a label.

    Active distillation: a teacher is asked of a few images alone. The data are those that
    ``kdlight score`` read, such as an
    :class:`~datamodules.images.unlabelled.UnlabelledDataModule`; held-out images stay.

    Args:
        data: The images that were scored.
        selection: What ``kdlight select`` wrote (``.json``).
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: There is no such file, or it speaks of other images.
    """

    def __init__(
        self,
        data: ImageDataModule,
        selection: str,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        self.selection = Path(selection)

    def read(self) -> Splits:
        require_file(self.selection)
        splits = self.data.splits
        pool, labels = pool_of(self.data)
        rows = read_selection(self.selection, digest_of_images(pool, labels), len(labels)).numpy()
        kept = np.union1d(rows, np.flatnonzero(labels >= 0))
        training = chosen([splits.training], [kept], labels[kept])
        return Splits(training, splits.heldout, splits.reference)


def pool_of(data: ImageDataModule) -> tuple[Data, npt.NDArray[np.int64]]:
    """The training images, without augmentation where the data have them so, and their labels."""
    splits = data.splits
    same = length_of(splits.reference) == length_of(splits.training)
    return (splits.reference if same else splits.training), labels_of(splits.training)


def digest_of_images(data: Data, labels: npt.NDArray[np.int64]) -> str:
    """SHA-256 of images in memory, or of the names of their files, and of their labels."""
    digest = hashlib.sha256(labels.tobytes())
    if isinstance(data, dict):
        pixels = data["image"].contiguous()
        digest.update(str(tuple(pixels.shape)).encode())
        digest.update(pixels.view(torch.uint8).numpy().tobytes())
    else:
        digest.update("\n".join(names_of(data)).encode())
    return digest.hexdigest()


def names_of(data: Data) -> list[str]:
    """Names of the files of samples; empty where they come from none."""
    if isinstance(data, Rows):
        named = [names_of(part) for part in data.parts]
        return [named[part][row] if named[part] else "" for part, row in data.rows.tolist()]
    sources = getattr(data, "sources", [])
    return [each.name if isinstance(each, Path) else "" for each in sources]
