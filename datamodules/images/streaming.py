"""Training on a stream that has no index: shuffled in blocks, resumable, rank-aware."""

import copy
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch.utils.data import default_collate

from datamodules.loader import Batch, EndlessLoader
from datamodules.order import positive, seeded
from kdlight.errors import InputError

Example: TypeAlias = dict[str, Any]
Decode: TypeAlias = Callable[[Example, torch.Generator | None], Batch]
"""Turns an example into a sample; with a generator, an augmented one."""


class ShuffledStream(EndlessLoader):
    """Endless training batches from a ``datasets.IterableDataset``.

    The stream is read in blocks of ``buffer`` examples, each permuted by (seed, epoch, block).
    Unlike a running shuffle buffer, a block can be read again: a resumed run goes to its start
    (in the source's own file and row) and skips what was used. Every rank reads all examples and
    decodes its own, so ranks share the samples as in :class:`~datamodules.order.Order`.

    Args:
        dataset: The source; its images not decoded.
        decode: Decodes an example.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches of one iteration.
        seed: Seed of the order and the augmentation.
        rank: Which rank this is.
        world_size: Number of ranks.
        buffer: Examples in a block.
    """

    def __init__(
        self,
        dataset: Any,
        decode: Decode,
        batch_size: int,
        steps_per_epoch: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        buffer: int = 1000,
    ) -> None:
        super().__init__(steps_per_epoch)
        self.dataset = dataset
        self.decode = decode
        self.seed = positive("seed", seed, 0)
        self.rank = rank
        self.world_size = world_size
        self.global_batch = positive("batch_size", batch_size) * world_size
        self.buffer = positive("buffer", buffer)
        # Data epoch, block in it, examples of the block that were used, where the block starts.
        self._position: dict[str, Any] = {"epoch": 0, "block": 0, "used": 0, "source": None}
        self._examples: Iterator[tuple[Example, tuple[int, int]]] | None = None

    def next_batch(self) -> Batch:
        if self._examples is None:
            self._examples = self._read()
        samples = []
        for row, (example, (epoch, index)) in enumerate(islice(self._examples, self.global_batch)):
            if row % self.world_size == self.rank:
                samples.append(self.decode(example, seeded(self.seed, epoch, 2, index)))
        batch: Batch = default_collate(samples)
        return batch

    def _read(self) -> Iterator[tuple[Example, tuple[int, int]]]:
        """Examples from the current position on, with their data epoch and index in it."""
        at = self._position
        # A copy, because the source keeps its position in itself.
        dataset = copy.deepcopy(self.dataset)
        if at["source"] is not None:
            dataset.load_state_dict(at["source"])
        while True:
            # The order of the source's files changes with the epoch.
            dataset.set_epoch(at["epoch"])
            examples = iter(dataset)
            while block := list(islice(examples, self.buffer)):
                generator = seeded(self.seed, at["epoch"], 3, at["block"])
                order = torch.randperm(len(block), generator=generator).tolist()
                for row in order[at["used"] :]:
                    at["used"] += 1
                    yield block[row], (at["epoch"], at["block"] * self.buffer + row)
                at.update(block=at["block"] + 1, used=0, source=dataset.state_dict())
            if at["block"] == 0:
                raise InputError("data stream: expected examples, found none.")
            at.update(epoch=at["epoch"] + 1, block=0, source=None)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "position": copy.deepcopy(self._position)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._position = copy.deepcopy(state["position"])
        self._examples = None

    def identity(self) -> dict[str, int]:
        return {"seed": self.seed, "global_batch": self.global_batch, "buffer": self.buffer}


class StreamPass:
    """One pass over a stream in order, unaugmented; rank r gets examples r, r + world_size, ...

    Every rank gets the same number of batches, as in :func:`~datamodules.order.shares`: a joint
    batch with fewer examples than ranks joins the one before it.

    Args:
        dataset: The source; its images not decoded.
        decode: Decodes an example.
        batch_size: Batch size of one rank; its last batch may hold one more.
        rank: Which rank this is.
        world_size: Number of ranks.
    """

    def __init__(
        self,
        dataset: Any,
        decode: Decode,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset = dataset
        self.decode = decode
        self.batch_size = positive("batch_size", batch_size)
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[Batch]:
        examples = iter(copy.deepcopy(self.dataset))
        joint = self.batch_size * self.world_size
        block = list(islice(examples, joint))
        while block:
            following = list(islice(examples, joint))
            if len(following) < self.world_size:
                block, following = block + following, []
            if mine := block[self.rank :: self.world_size]:
                yield default_collate([self.decode(example, None) for example in mine])
            block = following
