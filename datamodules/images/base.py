"""What the data modules of images share: splits, loaders, and the position in the data."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from datamodules.base import EndlessDataModule
from datamodules.loader import Batch, Data, EndlessLoader, EvaluationLoader, StreamLoader
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric


@dataclass(frozen=True)
class Splits:
    """The parts of a data set.

    Attributes:
        training: What training draws from.
        heldout: What no training sees.
        reference: The training part without augmentation.
    """

    training: Data
    heldout: Data
    reference: Data


class ImageDataModule(EndlessDataModule):
    """Base of the data modules: a subclass says what its data are and reads them.

    Batches are ``{"image": (B, C, H, W) float32 in [-1, 1], "label": (B,) int64}``. The split is
    fixed, whatever the seed, so that runs over seeds are comparable.

    Args:
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations; see
            :class:`~datamodules.loader.EndlessLoader`.
        seed: Seed of the order and of augmentation.
        num_workers: Worker processes that read files.
    """

    flip = False

    def __init__(
        self,
        batch_size: PositiveInt,
        steps_per_epoch: PositiveInt,
        seed: NonNegativeInt,
        num_workers: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.num_workers = num_workers

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample without the batch, (C, H, W)."""
        raise NotImplementedError

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their labels; empty if there are none."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if the data have no labels."""
        return len(self.class_names)

    def read(self) -> Splits:
        """Read the data, or find their files."""
        raise NotImplementedError

    @cached_property
    def splits(self) -> Splits:
        """The data, read once."""
        return self.read()

    def setup(self, stage: str | None = None) -> None:
        """Read the data before training starts, so that bad data stop a run at once."""
        _ = self.splits

    def make_train_loader(self) -> EndlessLoader:
        """A training loader that starts at the beginning."""
        return StreamLoader(
            self.splits.training,
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            *self.ranks,
            num_workers=self.num_workers,
            flip=self.flip,
        )

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part in order."""
        return EvaluationLoader(
            self.splits.heldout, self.batch_size, *self.ranks, num_workers=self.num_workers
        )

    def reference_dataloader(self) -> Iterable[Batch]:
        """The training part in order, unaugmented: what Frechet distances compare with."""
        return EvaluationLoader(
            self.splits.reference, self.batch_size, *self.ranks, num_workers=self.num_workers
        )

    def one_pass(self, part: Literal["reference", "heldout"]) -> Iterable[Batch]:
        """All batches of what samples are compared with, in order, the same on every rank."""
        return EvaluationLoader(
            getattr(self.splits, part), self.batch_size, num_workers=self.num_workers
        )

    def whole(self, part: Literal["reference", "heldout"]) -> Tensor:
        """All images of a part, (N, C, H, W), the same on every rank."""
        return torch.cat([batch["image"] for batch in self.one_pass(part)])

    def whole_labels(self, part: Literal["reference", "heldout"]) -> Tensor | None:
        """Labels (N,), int64, of the images of :meth:`whole`; None if the data have none."""
        if not self.num_classes:
            return None
        return torch.cat([batch["label"] for batch in self.one_pass(part)])

    def judges(self) -> list[SampleMetric]:
        """Metrics that only these data offer; their ``update`` takes samples and the classes."""
        return []


def stratified_split(
    labels: npt.NDArray[np.int64], heldout: int | float, class_names: list[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the training and of the held-out part, with every class in both in proportion.

    Args:
        labels: Label of every sample, (N,).
        heldout: Number (integer) or fraction (below 1) of samples to hold out.
        class_names: For messages.

    Raises:
        InputError: A class has fewer than two samples, or the parts would be empty.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if count < 2:
            raise InputError(
                f"class {name!r}: expected at least 2 images, one of them to hold out, "
                f"found {count}."
            )
    try:
        training, held = train_test_split(
            np.arange(len(labels)), test_size=heldout, stratify=labels, random_state=0
        )
    except ValueError:
        raise InputError(
            f"heldout: {heldout} of {len(labels)} images does not leave every one of the "
            f"{len(class_names)} classes in both parts."
        ) from None
    return training, held


def split_tensors(
    image: Tensor, label: Tensor, heldout: int | float, class_names: list[str]
) -> Splits:
    """Splits of images (N, C, H, W) and labels (N,) in memory."""
    parts: list[Batch] = []
    for part in stratified_split(label.numpy(), heldout, class_names):
        index = torch.from_numpy(part)
        parts.append({"image": image[index], "label": label[index]})
    training, held = parts
    return Splits(training, held, reference=training)
