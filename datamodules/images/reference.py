"""Training data that are no images of a data set, which is there to compare with and no more."""

from collections.abc import Iterable
from typing import Literal

from torch import Tensor

from datamodules.images.base import ImageDataModule, Splits
from datamodules.loader import Batch
from kdlight.callbacks.images.generation import GenerationReport
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric


class ReferencedDataModule(ImageDataModule):
    """Base of the data modules that train on something else than what samples are compared with.

    Training never touches ``reference``: it is prepared and read when evaluation first asks.

    Args:
        reference: The data of validation, of the report and of predictions; None for none.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the training batches.
    """

    def __init__(
        self, reference: ImageDataModule | None, batch_size: int, steps_per_epoch: int, seed: int
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.reference = reference
        self._prepared = False

    @property
    def class_names(self) -> list[str]:
        if self.reference is not None and self.reference.num_classes == self.num_classes:
            return self.reference.class_names
        return [str(label) for label in range(self.num_classes)]

    @property
    def num_classes(self) -> int:
        raise NotImplementedError

    def judges(self) -> list[SampleMetric]:
        """Those of the reference."""
        return [] if self.reference is None else self.reference.judges()

    def setup(self, stage: str | None = None) -> None:
        """Refuse a report that has nothing to compare with, before training starts.

        Raises:
            InputError: There is a :class:`GenerationReport` and no reference.
        """
        callbacks = [] if self.trainer is None else self.trainer.callbacks  # type: ignore[attr-defined]
        if self.reference is None and any(isinstance(c, GenerationReport) for c in callbacks):
            raise InputError(
                "data.init_args.reference: expected the data that GenerationReport compares "
                "samples with, found null."
            )

    def compared(self) -> ImageDataModule:
        """The reference, prepared and read. All ranks call this together.

        Raises:
            InputError: There is none, or its samples have another shape.
        """
        reference = self.reference
        if reference is None:
            raise InputError(
                "data.init_args.reference: expected data to compare samples with, found null."
            )
        reference.trainer = self.trainer
        if not self._prepared:
            if tuple(reference.shape) != tuple(self.shape):
                raise InputError(
                    f"data.init_args.reference: expected samples of shape {tuple(self.shape)}, "
                    f"found {tuple(reference.shape)}."
                )
            if self.trainer is None or self.trainer.local_rank == 0:
                reference.prepare_data()
            if self.trainer is not None:
                self.trainer.strategy.barrier("reference")
            reference.setup()
            self._prepared = True
        return reference

    def read(self) -> Splits:
        return self.compared().splits

    def one_pass(self, part: Literal["reference", "heldout"]) -> Iterable[Batch]:
        return self.compared().one_pass(part)

    def whole(self, part: Literal["reference", "heldout"]) -> Tensor:
        return self.compared().whole(part)

    def whole_labels(self, part: Literal["reference", "heldout"]) -> Tensor | None:
        return self.compared().whole_labels(part)

    def reference_dataloader(self) -> Iterable[Batch]:
        return self.compared().reference_dataloader()

    def heldout_dataloader(self) -> Iterable[Batch]:
        return self.compared().heldout_dataloader()

    def val_dataloader(self) -> Iterable[Batch]:
        """The reference's held-out part in order; nothing without one."""
        return [] if self.reference is None else self.heldout_dataloader()
