"""Noise and labels alone: what methods without data train on."""

import math
from collections.abc import Sequence

import torch

from datamodules.images.base import ImageDataModule
from datamodules.images.reference import ReferencedDataModule
from datamodules.loader import Batch, EndlessLoader
from datamodules.order import positive
from kdlight.core.noise import mix
from kdlight.errors import InputError


class NoiseLoader(EndlessLoader):
    """Endless batches of noise, each a function of (seed, number of the batch).

    A rank takes rows ``rank::world_size`` of the joint batch, as in
    :class:`~datamodules.order.Order`, and draws no others: every row has a stream of its own. An
    accelerator's numbers are others than the CPU's, as those of all step noise.

    Args:
        shape: Shape of one sample without the batch.
        num_classes: Classes whose labels are drawn; 0 for none.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches of one iteration.
        seed: Seed of the noise.
        rank: Which rank this is.
        world_size: Number of ranks.
        device: Where the noise is drawn, and the batches are.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        batch_size: int,
        steps_per_epoch: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(steps_per_epoch)
        self.shape = tuple(shape)
        self.num_classes = num_classes
        self.global_batch = positive("batch_size", batch_size) * world_size
        self.seed = positive("seed", seed, 0)
        self.rank = rank
        self.world_size = world_size
        self.device = device

    def next_batch(self) -> Batch:
        rows = range(self.rank, self.global_batch, self.world_size)
        source = torch.Generator(self.device)
        noise = torch.empty(len(rows), *self.shape, device=self.device)
        for values, row in zip(noise, rows, strict=True):
            source.manual_seed(mix(self.seed, self.batches, row))
            values.normal_(generator=source)
        batch = {"noise": noise}
        if self.num_classes:
            labels = [mix(self.seed, self.batches, row, 1) % self.num_classes for row in rows]
            batch["label"] = torch.tensor(labels, device=self.device)
        return batch

    def identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "global_batch": self.global_batch,
            "size": math.prod(self.shape),
            "num_classes": self.num_classes,
        }


class NoiseDataModule(ReferencedDataModule):
    """Data-free training; batches are ``{"noise": (B, *shape), "label": (B,) int64}``.

    The noise is standard normal, float32, the labels uniform over the classes, and both are new
    in every batch of the run.

    Args:
        reference: What samples are compared with; training never touches it. None for none.
        shape: Shape of one sample without the batch; null for the reference's.
        num_classes: Classes whose labels are drawn, 0 for none; null for the reference's.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the noise.

    Raises:
        InputError: Neither a shape nor a reference that has one.
    """

    def __init__(
        self,
        reference: ImageDataModule | None = None,
        shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(reference, batch_size, steps_per_epoch, seed)
        if shape is None and reference is None:
            raise InputError(
                "data.init_args.shape: expected the shape of one sample, such as [1, 8, 8], or a "
                "reference that has one, found neither."
            )
        for side in shape or ():
            positive("shape", side)
        self._shape = None if shape is None else tuple(shape)
        self._num_classes = None if num_classes is None else positive("num_classes", num_classes, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        if self._shape is not None:
            return self._shape
        assert self.reference is not None
        return self.reference.shape

    @property
    def num_classes(self) -> int:
        if self._num_classes is not None:
            return self._num_classes
        return 0 if self.reference is None else self.reference.num_classes

    def make_train_loader(self) -> NoiseLoader:
        return NoiseLoader(
            self.shape,
            self.num_classes,
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            *self.ranks,
            device="cpu" if self.trainer is None else self.trainer.strategy.root_device,
        )
