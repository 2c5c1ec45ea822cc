"""scikit-learn's digits: 1,797 grey images of 8x8 pixels, on the disk with the library."""

import torch
from sklearn.datasets import load_digits

from datamodules.images.base import ImageDataModule, Splits, split_tensors
from kdlight.errors import InputError


class DigitsDataModule(ImageDataModule):
    """1,437 training and 360 held-out images of 8x8 pixels in 10 classes.

    The optical digits of Alpaydin and Kaynak (1998) as scikit-learn bundles them: pixel values 0
    to 16, mapped to [-1, 1].

    Args:
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
        leave_out: Classes that training never sees; what samples are compared with holds them.

    Raises:
        InputError: A class to leave out does not exist, or none is left.
    """

    def __init__(
        self,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
        leave_out: list[int] = [],  # noqa: B006 - never changed
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not set(leave_out) < set(range(10)):
            raise InputError(f"leave_out: expected some of the digits 0 to 9, found {leave_out}.")
        self.leave_out = list(leave_out)

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 8, 8)

    @property
    def class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def read(self) -> Splits:
        pixels, target = load_digits(return_X_y=True)
        image = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 8 - 1
        splits = split_tensors(image, torch.from_numpy(target).long(), 360, self.class_names)
        if not self.leave_out:
            return splits
        known = splits.reference
        assert isinstance(known, dict)
        kept = ~torch.isin(known["label"], torch.tensor(self.leave_out))
        training = {name: values[kept] for name, values in known.items()}
        return Splits(training, splits.heldout, reference=known)
