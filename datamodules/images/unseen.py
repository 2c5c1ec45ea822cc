"""Image data of whose classes some are never trained on."""

from functools import cached_property

import numpy as np

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.views import WrappedDataModule, chosen, labels_of
from datamodules.loader import Data
from kdlight.errors import InputError


class UnseenClassesDataModule(WrappedDataModule):
    """Trains on the images of some classes; held-out images are of all.

    For students that know a class by its text, so that one without an image can be recognised.

    Attributes:
        groups: Classes that are ``seen`` in training, and ``unseen`` ones.

    Args:
        data: The images.
        unseen: Names of the classes that training never sees, or how many, drawn by a fixed seed,
            whatever that of the run.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: A name is none of the data's classes, or no class is left to see.
    """

    def __init__(
        self,
        data: ImageDataModule,
        unseen: int | list[str | int],
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        self.unseen = unseen

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        names = self.class_names
        if isinstance(self.unseen, int):
            order = np.random.default_rng(0).permutation(len(names)).tolist()
            hidden = order[: max(0, self.unseen)]
        else:
            wanted = [str(name) for name in self.unseen]  # YAML takes a name of digits for a number
            for name in wanted:
                if name not in names:
                    raise InputError(
                        f"unseen: expected names of the data's classes, found {name!r}."
                    )
            hidden = [names.index(name) for name in wanted]
        found = {"seen": sorted(set(range(len(names))) - {*hidden}), "unseen": sorted({*hidden})}
        if not (found["seen"] and found["unseen"]):
            raise InputError(
                f"unseen: expected some but not all of the {len(names)} classes, found "
                f"{self.unseen}."
            )
        return found

    def read(self) -> Splits:
        splits = self.data.splits
        return Splits(self._seen(splits.training), splits.heldout, self._seen(splits.reference))

    def _seen(self, data: Data) -> Data:
        """The samples of classes that are seen."""
        labels = labels_of(data)
        kept = np.flatnonzero(np.isin(labels, self.groups["seen"]))
        return chosen([data], [kept], labels[kept])
