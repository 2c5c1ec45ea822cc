"""CIFAR-10, downloaded by torchvision and held to its checksums."""

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from datamodules.images.base import ImageDataModule, Splits
from datamodules.loader import Batch
from kdlight.errors import InputError


class CIFAR10DataModule(ImageDataModule):
    """50,000 training and 10,000 held-out colour images of 32x32 pixels in 10 classes.

    Kept in memory as bytes (180 MB). torchvision compares every file with its MD5 sum before it
    is opened.

    Args:
        data_dir: Folder that holds ``cifar-10-batches-py``, or will.
        download: Whether to fetch the archive (170 MB) if it is not there.
        flip: Mirror half of the training images left to right.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the flips.
    """

    def __init__(
        self,
        data_dir: str = "data",
        download: bool = True,
        flip: bool = True,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.data_dir = Path(data_dir)
        self.download = download
        self.flip = flip

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, 32, 32)

    @property
    def class_names(self) -> list[str]:
        names = "airplane automobile bird cat deer dog frog horse ship truck"
        return names.split()

    def prepare_data(self) -> None:
        """Fetch the archive if it is not there (one process per machine does this).

        Raises:
            InputError: It is not there and cannot be fetched.
        """
        if not self.download:
            return
        try:
            CIFAR10(str(self.data_dir), download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.data_dir}: holds no whole copy of CIFAR-10, and downloading it failed "
                f"({str(error).rstrip('.')})."
            ) from None

    def read(self) -> Splits:
        training = self._part(train=True)
        return Splits(training, self._part(train=False), reference=training)

    def _part(self, train: bool) -> Batch:
        try:
            data = CIFAR10(str(self.data_dir), train=train)
        except (OSError, RuntimeError):
            raise InputError(
                f"{self.data_dir}: expected CIFAR-10 (cifar-10-batches-py with its checksums), "
                "found no whole copy."
            ) from None
        image = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return {"image": image, "label": torch.tensor(data.targets)}
