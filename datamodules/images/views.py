"""Parts and unions of data sets, whether they lie in memory or are read one by one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from datamodules.images.base import ImageDataModule
from datamodules.loader import Batch, Data, length_of, take
from kdlight.errors import InputError


class Rows:
    """Some samples of some data sets, with labels of their own.

    Args:
        parts: Data sets.
        rows: For every sample which set it is of, and its index there, (N, 2).
        labels: Label of every sample.
    """

    def __init__(
        self, parts: Sequence[Data], rows: npt.NDArray[np.int64], labels: Sequence[int]
    ) -> None:
        self.parts = parts
        self.rows = rows
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        part, row = self.rows[index].tolist()
        data = self.parts[part]
        if isinstance(data, dict):
            image = take({"image": data["image"]}, torch.tensor([row]))["image"][0]
        else:
            image = data[row, epoch]["image"]
        return {"image": image, "label": torch.tensor(self.labels[index])}


def labels_of(data: Data) -> npt.NDArray[np.int64]:
    """Labels of all samples, (N,), without reading their images.

    Raises:
        InputError: These data do not know their labels beforehand.
    """
    if isinstance(data, dict):
        return data["label"].numpy()
    labels = getattr(data, "labels", None)
    if labels is None:
        raise InputError(
            f"data: expected samples whose labels are known beforehand, found "
            f"{type(data).__name__}."
        )
    return np.asarray(labels, dtype=np.int64)


def chosen(
    parts: Sequence[Data], rows: Sequence[npt.NDArray[np.int64]], labels: npt.NDArray[np.int64]
) -> Data:
    """Rows of data sets one after the other, in memory if all of them are.

    Args:
        parts: Data sets.
        rows: Indices of each, (n,).
        labels: New labels of all of them, (N,).
    """
    kept = [data for data in parts if isinstance(data, dict)]
    if len(kept) == len(parts):
        images = [
            take({"image": data["image"]}, torch.from_numpy(index))["image"]
            for data, index in zip(kept, rows, strict=True)
        ]
        return {"image": torch.cat(images), "label": torch.from_numpy(labels)}
    numbered = [
        np.stack([np.full(len(index), part), index], axis=1) for part, index in enumerate(rows)
    ]
    return Rows(parts, np.concatenate(numbered), labels.tolist())


class WrappedDataModule(ImageDataModule):
    """Base of the data modules that change what another one trains on; held-out images stay.

    Args:
        data: The other one; its batch size is not used.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of augmentation.
    """

    def __init__(
        self, data: ImageDataModule, batch_size: int, steps_per_epoch: int, seed: int
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed, data.num_workers)
        self.data = data
        data.seed = seed
        self.flip = data.flip

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def class_names(self) -> list[str]:
        return self.data.class_names

    def prepare_data(self) -> None:
        self.data.prepare_data()


def every(data: Data) -> npt.NDArray[np.int64]:
    """Indices of all samples."""
    return np.arange(length_of(data))
