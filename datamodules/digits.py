"""scikit-learn's digits: 1,797 grey images of 8x8 pixels, on the disk with the library."""

import torch
from sklearn.datasets import load_digits

from datamodules.images import ImageDataModule, Splits, split_tensors


class DigitsDataModule(ImageDataModule):
    """1,437 training and 360 held-out images of 8x8 pixels in 10 classes.

    The optical digits of Alpaydin and Kaynak (1998) as scikit-learn bundles them: pixel values 0
    to 16, mapped to [-1, 1].

    Args:
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(self, batch_size: int = 128, steps_per_epoch: int = 500, seed: int = 0) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 8, 8)

    @property
    def class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def read(self) -> Splits:
        pixels, target = load_digits(return_X_y=True)
        image = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 8 - 1
        return split_tensors(image, torch.from_numpy(target).long(), 360, self.class_names)
