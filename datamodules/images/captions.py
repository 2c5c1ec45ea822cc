"""Images with a caption made of their class and their ink, and one that names another class."""

import numpy as np
import torch
from torch import Tensor

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.views import WrappedDataModule
from datamodules.loader import Batch, Data, length_of, some_of
from kdlight.core.ranges import Probability


class CaptionsDataModule(WrappedDataModule):
    """Batches of other data with ``tokens`` and ``worse``, two captions, (B, 4) int64 each.

    ``a 7 thick .``: the ink is thick where an image is brighter than the median of the training
    images. ``worse`` names another class, which is a hallucination. In memory.

    Attributes:
        words: The vocabulary.
        class_place: Where in a caption the class is named.

    Args:
        data: The images.
        hallucinated: Share of the training captions that are their ``worse``, for teachers that
            err; fixed, whatever the seed.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    class_place = 1

    def __init__(
        self,
        data: ImageDataModule,
        hallucinated: Probability = 0.0,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        self.hallucinated = hallucinated

    @property
    def words(self) -> list[str]:
        return ["a", ".", "thin", "thick", *self.class_names]

    def read(self) -> Splits:
        splits = self.data.splits
        known, held = self._whole(splits.reference), self._whole(splits.heldout)
        median = known["image"].mean(dim=(1, 2, 3)).median()
        training, heldout = (
            self._captioned(each, median, seed) for seed, each in enumerate((known, held), 1)
        )
        source = np.random.default_rng(3)
        wrong = torch.from_numpy(source.random(len(known["label"])) < self.hallucinated)
        said = torch.where(wrong[:, None], training["worse"], training["tokens"])
        return Splits(training | {"tokens": said}, heldout, training)

    @staticmethod
    def _whole(data: Data) -> Batch:
        return some_of(data, range(length_of(data)))

    def _captioned(self, batch: Batch, median: Tensor, seed: int) -> Batch:
        """A batch with both captions."""
        label = batch["label"]
        source = torch.Generator().manual_seed(seed)
        step = torch.randint(1, self.num_classes, label.shape, generator=source)
        other = (label + step) % self.num_classes
        thick = (batch["image"].mean(dim=(1, 2, 3)) > median).long()
        ends = torch.ones_like(label)
        right, wrong = (
            torch.stack([0 * ends, 4 + named, 2 + thick, ends], dim=1) for named in (label, other)
        )
        return batch | {"tokens": right, "worse": wrong}
