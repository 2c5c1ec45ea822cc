"""Pairs of noise and the image that a teacher makes of it, made once and kept in a file."""

from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from datamodules.images.base import ImageDataModule
from datamodules.images.reference import ReferencedDataModule
from datamodules.loader import Batch, StreamLoader
from kdlight.core.ranges import PositiveInt
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.storage.files import is_there
from kdlight.teachers.pairs import facts_of, file_name, make_pairs, read_pairs


class PairsDataModule(ReferencedDataModule):
    """A teacher's own samples: ``{"noise": (B, *shape), "image": (B, *shape), "label": (B,)}``.

    The images are where the teacher's ODE ends that starts in the noise. Missing pairs are made
    before training starts, by the first process; the name of their file says by which teacher,
    how many, in how many steps and from which noise, so it is found again and never stale. They
    do not depend on the run's seed: runs over seeds share them. They are held in memory.

    Args:
        teacher: Who makes them: the model's teacher.
        count: Number of pairs.
        steps: Steps of its walk; null for its default.
        file: Pairs that ``python -m kdlight pairs`` made, of the same settings; null makes them.
        folder: Where they are kept that are made here.
        pairs_seed: Seed of their noise.
        making_batch_size: Samples at once when they are made.
        device: Where they are made.
        reference: What samples are compared with; training never touches it. None for none.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: The teacher cannot make such pairs.
    """

    def __init__(
        self,
        teacher: Generator,
        count: int,
        steps: int | None = None,
        file: str | None = None,
        folder: str = "data/pairs",
        pairs_seed: int = 0,
        making_batch_size: PositiveInt = 500,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        reference: ImageDataModule | None = None,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(reference, batch_size, steps_per_epoch, seed)
        self.making_batch_size = making_batch_size
        self.teacher = teacher
        self.count, self.steps, self.pairs_seed = count, steps, pairs_seed
        self.device = device
        self._made_here = file is None
        facts = facts_of(teacher, count, steps, pairs_seed)  # complains
        self.file = Path(folder) / file_name(facts) if file is None else Path(file)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.teacher.shape

    @property
    def num_classes(self) -> int:
        """The reference's number of classes; the teacher's without one."""
        if self.reference is None:
            return self.teacher.num_classes
        return self.reference.num_classes

    def prepare_data(self) -> None:
        """Make missing pairs, in one process, while the others wait.

        Raises:
            InputError: They were to be in a file, and are not.
        """
        if self._other_than_training or is_there(self.file):
            return
        if not self._made_here:
            raise InputError(
                f"{self.file}: no such file; `python -m kdlight pairs` makes one, and "
                "data.init_args.file null does too."
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        make_pairs(
            self.teacher,
            self.count,
            self.file,
            self.steps,
            self.pairs_seed,
            self.making_batch_size,
            device if self.device == "auto" else self.device,
        )
        self.teacher.to("cpu")

    def setup(self, stage: str | None = None) -> None:
        """Read the pairs before training starts."""
        super().setup(stage)
        if not self._other_than_training:
            _ = self.pairs

    @property
    def _other_than_training(self) -> bool:
        """Whether this is a run of another verb, which takes no pairs."""
        return self.trainer is not None and self.trainer.state.fn != "fit"

    @cached_property
    def pairs(self) -> Batch:
        """All pairs, read once."""
        self.prepare_data()
        return read_pairs(self.file, self.teacher, self.count, self.steps, self.pairs_seed)

    def make_train_loader(self) -> StreamLoader:
        return StreamLoader(
            self.pairs, self.batch_size, self.steps_per_epoch, self.seed, *self.ranks
        )
