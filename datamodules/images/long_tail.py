"""Image data whose classes become rarer and rarer."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.views import WrappedDataModule, chosen, labels_of
from datamodules.order import positive
from kdlight.errors import InputError


class LongTailDataModule(WrappedDataModule):
    """Keeps of class c of C ``largest * imbalance ** (-c / (C - 1))`` training images, 1 at least.

    As CIFAR-LT is made (Cui et al., arXiv:1901.05555). Held-out images stay as they are. Which
    images are kept is fixed, whatever the seed. Data that are a long tail already, such as
    ImageNet-LT, are kept whole (``imbalance: null``) and get their counts and groups.

    Attributes:
        class_counts: Training images of each class.
        groups: Classes of more than ``many`` images, of fewer than ``few``, and ``medium`` ones.

    Args:
        data: The images.
        imbalance: Images of the first class over those of the last, at least 1; None keeps all.
        largest: Images of the first class; None for as many as the smallest class has.
        many: See :attr:`groups`.
        few: See :attr:`groups`.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: A number is out of range, or a class has not so many images.
    """

    def __init__(
        self,
        data: ImageDataModule,
        imbalance: float | None = 50.0,
        largest: int | None = None,
        many: int = 100,
        few: int = 20,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        if (imbalance is not None and imbalance < 1) or not 0 < few <= many:
            raise InputError(
                "imbalance, few, many: expected at least 1, and 0 < few <= many, found "
                f"{imbalance}, {few} and {many}."
            )
        self.imbalance = imbalance
        self.largest = None if largest is None else positive("largest", largest)
        self.many, self.few = many, few

    @cached_property
    def class_counts(self) -> list[int]:
        there = np.bincount(labels_of(self.data.splits.training), minlength=self.num_classes)
        if self.imbalance is None:
            return [int(count) for count in there]
        largest = self.largest or int(there.min())
        shares = self.imbalance ** -np.linspace(0, 1, self.num_classes)
        wanted = [max(1, round(largest * share)) for share in shares.tolist()]
        for name, count, known in zip(self.class_names, wanted, there.tolist(), strict=True):
            if count > known:
                raise InputError(f"largest: class {name!r} has {known} images, not {count}.")
        return wanted

    @property
    def groups(self) -> dict[str, list[int]]:
        sizes = list(enumerate(self.class_counts))
        found = {
            "many": [label for label, count in sizes if count > self.many],
            "medium": [label for label, count in sizes if self.few <= count <= self.many],
            "few": [label for label, count in sizes if count < self.few],
        }
        return {name: classes for name, classes in found.items() if classes}

    def read(self) -> Splits:
        splits = self.data.splits
        if self.imbalance is None:
            return splits
        known = labels_of(splits.training)
        source = np.random.default_rng(0)
        kept: list[npt.NDArray[np.int64]] = []
        for label, count in enumerate(self.class_counts):
            own = np.flatnonzero(known == label)
            kept.append(source.permutation(own)[:count])
        index = np.sort(np.concatenate(kept))
        return Splits(
            chosen([splits.training], [index], known[index]), splits.heldout, splits.reference
        )
