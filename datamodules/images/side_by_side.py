"""Two images in one, whose class is the pair: some pairs are never trained on."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.views import WrappedDataModule
from datamodules.loader import Batch, length_of, some_of
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.errors import InputError


class SideBySideDataModule(WrappedDataModule):
    """Pictures of two images of other data, at the upper left and the lower right of a dark ground.

    Class ``a C + b`` is the pair of class a and class b, and named after both: ``3 and 7``. Images
    are put together by a fixed seed, whatever that of the run. Held-out pictures are of held-out
    images and of all pairs; training pictures of those that are seen. In memory.

    Attributes:
        groups: Pairs that are ``seen`` in training, and ``unseen`` ones.

    Args:
        data: The images.
        unseen: Number of pairs that training never sees.
        pictures: Training pictures.
        heldout: Held-out pictures.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: Data without classes, or no pair is left to see.
    """

    def __init__(
        self,
        data: ImageDataModule,
        unseen: NonNegativeInt = 30,
        pictures: PositiveInt = 3000,
        heldout: PositiveInt = 1000,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        if not 0 <= unseen < data.num_classes**2:
            raise InputError(
                f"unseen: expected fewer than the {data.num_classes**2} pairs of classes, found "
                f"{unseen}."
            )
        self.unseen, self.pictures, self.heldout = unseen, pictures, heldout

    @property
    def shape(self) -> tuple[int, ...]:
        channels, height, width = self.data.shape
        return (channels, 2 * height, 2 * width)

    @property
    def class_names(self) -> list[str]:
        names = self.data.class_names
        return [f"{first} and {second}" for first in names for second in names]

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        order = np.random.default_rng(0).permutation(self.num_classes).tolist()
        found = {"seen": sorted(order[self.unseen :]), "unseen": sorted(order[: self.unseen])}
        return {name: pairs for name, pairs in found.items() if pairs}

    def read(self) -> Splits:
        splits = self.data.splits
        seen, every = np.array(self.groups["seen"]), np.arange(self.num_classes)
        parts = []
        for data, pairs, count, seed in (
            (splits.reference, seen, self.pictures, 1),
            (splits.heldout, every, self.heldout, 2),
        ):
            known = some_of(data, range(length_of(data)))
            parts.append(self._composed(known, pairs, count, seed))
        return Splits(parts[0], parts[1], parts[0])

    def _composed(self, known: Batch, pairs: npt.NDArray[np.int64], count: int, seed: int) -> Batch:
        source = np.random.default_rng(seed)
        label = pairs[np.arange(count) % len(pairs)]
        classes = known["label"].numpy()
        rows = [np.flatnonzero(classes == each) for each in range(self.data.num_classes)]
        _, height, width = self.data.shape
        image = torch.full((count, *self.shape), -1.0)
        for pair, place in zip(label.tolist(), image, strict=True):
            first, second = divmod(pair, self.data.num_classes)
            place[:, :height, :width] = known["image"][source.choice(rows[first])]
            place[:, height:, width:] = known["image"][source.choice(rows[second])]
        return {"image": image, "label": torch.from_numpy(label)}
