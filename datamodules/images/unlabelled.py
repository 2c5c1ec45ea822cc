"""Images of which few are labelled, beside images from elsewhere if wanted."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.views import WrappedDataModule, chosen, every, labels_of
from datamodules.loader import length_of
from datamodules.order import positive
from kdlight.errors import InputError

NONE = -1
"""Label of an image without one."""


class UnlabelledDataModule(WrappedDataModule):
    """Keeps the labels of some training images and gives the others the label -1.

    Which keep theirs is fixed, whatever the seed, every class in proportion. Held-out images keep
    their labels.

    Args:
        data: The images.
        labels: How many keep their label.
        part: Train on ``all`` images, on the ``labelled`` or on the ``foreign`` alone.
        foreign: More images, without labels, mixed in; or, as ``part`` says, those that there are
            where a teacher's own are gone and ``data`` is but its test.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: There are not as many images, fewer labels than classes, foreign images of
            another shape, or none where they are wanted.
    """

    def __init__(
        self,
        data: ImageDataModule,
        labels: int,
        part: Literal["all", "labelled", "foreign"] = "all",
        foreign: ImageDataModule | None = None,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        self.number = positive("labels", labels, 0)
        self.part = part
        self.foreign = foreign
        if part == "foreign" and foreign is None:
            raise InputError("foreign: expected images to train on, as part says, found null.")
        if foreign is not None and tuple(foreign.shape) != tuple(data.shape):
            raise InputError(
                f"foreign: expected images of shape {tuple(data.shape)}, found "
                f"{tuple(foreign.shape)}."
            )

    @property
    def all_labelled(self) -> bool:
        """Whether every training image has a label."""
        return bool((labels_of(self.splits.training) >= 0).all())

    def prepare_data(self) -> None:
        super().prepare_data()
        if self.foreign is not None:
            self.foreign.prepare_data()

    def read(self) -> Splits:
        splits = self.data.splits
        known = labels_of(splits.training)
        kept = self._kept(known)
        if self.part == "labelled":
            training = chosen([splits.training], [kept], known[kept])
            return Splits(training, splits.heldout, splits.reference)
        if self.part == "foreign" and self.foreign is not None:
            other = self.foreign.splits.training
            unknown = np.full(length_of(other), NONE)
            return Splits(
                chosen([other], [every(other)], unknown), splits.heldout, splits.reference
            )
        labels = np.full(len(known), NONE)
        labels[kept] = known[kept]
        parts, rows = [splits.training], [every(splits.training)]
        if self.foreign is not None:
            other = self.foreign.splits.training
            parts, rows = [*parts, other], [*rows, every(other)]
            labels = np.concatenate([labels, np.full(length_of(other), NONE)])
        return Splits(chosen(parts, rows, labels), splits.heldout, splits.reference)

    def _kept(self, known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Indices of the images that keep their label."""
        if self.number in (0, len(known)):
            return np.arange(self.number)
        if not self.num_classes <= self.number <= len(known):
            raise InputError(
                f"labels: expected 0, or from the {self.num_classes} classes to the {len(known)} "
                f"training images, found {self.number}."
            )
        share = self.number
        try:
            kept, _ = train_test_split(
                np.arange(len(known)), train_size=share, stratify=known, random_state=0
            )
        except ValueError:
            raise InputError(
                f"labels: {share} of {len(known)} images do not hold every class."
            ) from None
        return np.sort(kept)
