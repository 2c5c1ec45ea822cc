"""Loaders: an endless, resumable, rank-aware one for training, an ordered one for evaluation.

Neither knows Lightning. Lightning saves and restores the state of any loader that has
``state_dict`` and ``load_state_dict``, which :class:`StreamLoader` has.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from datamodules.order import Order, coins, positive, shares
from kdlight.errors import InputError
from kdlight.storage.pictures import to_float

Batch: TypeAlias = dict[str, Tensor]


class Samples(Protocol):
    """Data that are read one by one.

    A key is ``(index, epoch)``. A random augmentation is a function of the two (and the data
    set's seed), so neither workers nor a resumed run change it.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Batch: ...


Data: TypeAlias = Batch | Samples
"""Tensors of equal length in memory (uint8 images are mapped to [-1, 1] when read), or samples."""


Collate: TypeAlias = Callable[[list[Any]], Batch]
"""Makes one batch of samples; torch's ``default_collate`` where none is given."""


def length_of(data: Data) -> int:
    """Number of samples."""
    return len(next(iter(data.values()))) if isinstance(data, dict) else len(data)


def take(data: Batch, index: Tensor) -> Batch:
    """The rows ``index`` (n,) of every tensor.

    Uint8 images come out as float32 in [-1, 1], tokens of any size as int64.
    """
    batch = {name: tensor.index_select(0, index) for name, tensor in data.items()}
    if "tokens" in batch:
        batch["tokens"] = batch["tokens"].long()
    if "image" in batch and batch["image"].dtype == torch.uint8:
        batch["image"] = to_float(batch["image"])
    return batch


def some_of(data: Data, index: Sequence[int]) -> Batch:
    """Samples as one batch, without augmentation that changes from epoch to epoch."""
    if isinstance(data, dict):
        return take(data, torch.tensor(index))
    return default_collate([data[each, 0] for each in index])  # type: ignore[no-any-return]


def _read(
    samples: Samples, keys: Any, num_workers: int, collate: Collate | None = None
) -> DataLoader[Batch]:
    """A torch loader over batches of keys, an endless iterable or a list."""
    return DataLoader(
        samples,  # type: ignore[arg-type]  # a map-style data set with our keys
        batch_sampler=keys,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        # The loader draws a seed for its workers when it starts. From the global generator, that
        # would make a resumed run differ from an unbroken one.
        generator=torch.Generator(),
    )


class EndlessLoader:
    """What all training loaders share: steps, counting, state.

    One iteration yields ``steps_per_epoch`` batches from where the last one stopped: Lightning's
    epoch, which has nothing to do with a pass over the data (a tiny data set would otherwise
    spend its time between epochs). A resumed iteration yields as many; Lightning ends it where
    the interrupted epoch ends.

    Args:
        steps_per_epoch: Batches of one iteration.

    Attributes:
        batches: Batches handed out so far.
        changed: What the order depends on and was another when the run stopped, before and after.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = positive("steps_per_epoch", steps_per_epoch)
        self.batches = 0
        self.changed: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.steps_per_epoch):
            batch = self.next_batch()
            # Before the batch is handed out: a checkpoint written while it is being used, or
            # after, counts it, whatever workers have read ahead.
            self.batches += 1
            yield batch

    def next_batch(self) -> Batch:
        """Batch number ``self.batches``."""
        raise NotImplementedError

    def identity(self) -> dict[str, int]:
        """What the meaning of a position depends on."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Batches handed out so far, and what their meaning depends on."""
        return {"batches": self.batches, **self.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the batches that another loader of the same order handed out.

        Args:
            state: Of :meth:`state_dict`. With ``inexact: True`` in it another order is accepted,
                and continues behind as many samples.

        Raises:
            InputError: The order was another one: other data, seed or global batch size.
        """
        found = self.identity()
        self.changed = {
            name: [state.get(name), value]
            for name, value in found.items()
            if state.get(name) != value
        }
        if self.changed and not state.get("inexact"):
            name, (before, now) = next(iter(self.changed.items()))
            raise InputError(
                f"data order: expected {name} {before} as in the checkpoint, found {name} {now} in "
                "this run; with --inexact_resume true it continues in another order, and no longer "
                "equals a run that was never stopped."
            )
        self.batches = state["batches"]
        if "global_batch" in self.changed:
            self.batches = self.batches * state["global_batch"] // found["global_batch"]


class StreamLoader(EndlessLoader):
    """Endless training batches in an order that depends on (seed, position) only.

    Data in memory are indexed directly; samples go through torch's ``DataLoader``, whose workers
    live on from one iteration to the next.

    Args:
        data: Tensors in memory, or samples.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches of one iteration.
        seed: Seed of the order and of the flips.
        rank: Which rank this is.
        world_size: Number of ranks.
        num_workers: Worker processes that read samples; 0 reads in the main process.
        flip: Mirror images left to right with probability 1/2, fixed by (seed, epoch, index).
            For data in memory; samples augment themselves.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        steps_per_epoch: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        flip: bool = False,
    ) -> None:
        super().__init__(steps_per_epoch)
        self.data = data
        self.order = Order(length_of(data), batch_size, seed, rank, world_size)
        self.num_workers = positive("num_workers", num_workers, 0)
        self.flip = flip
        # Lightning shuts the workers of an attribute of this name down when a run ends.
        self._iterator: Iterator[Batch] | None = None

    def next_batch(self) -> Batch:
        if isinstance(self.data, dict):
            return self._index(self.data)
        if self._iterator is None:
            keys = _Keys(self.order, self.batches)
            self._iterator = iter(_read(self.data, keys, self.num_workers))
        return next(self._iterator)

    def _index(self, data: Batch) -> Batch:
        parts = self.order.rows(self.batches)
        index = parts[0][1] if len(parts) == 1 else torch.cat([share for _, share in parts])
        batch = take(data, index)
        if self.flip:
            size, seed = self.order.size, self.order.seed
            flips = torch.cat([coins(size, seed, epoch)[share] for epoch, share in parts])
            image = batch["image"]
            batch["image"] = torch.where(flips.view(-1, 1, 1, 1), image.flip(-1), image)
        return batch

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._iterator = None

    def identity(self) -> dict[str, int]:
        order = self.order
        return {"seed": order.seed, "size": order.size, "global_batch": order.global_batch}


class _Keys:
    """The (index, epoch) keys of global batches from number ``start`` on, without end."""

    def __init__(self, order: Order, start: int) -> None:
        self.order = order
        self.start = start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch = self.start
        while True:
            parts = self.order.rows(batch)
            yield [(index, epoch) for epoch, share in parts for index in share.tolist()]
            batch += 1


class EvaluationLoader:
    """One pass in order, without augmentation; rank r gets samples r, r + world_size, ...

    No sample is repeated or left out over the ranks.

    Args:
        data: Tensors in memory, or samples (asked for epoch 0).
        batch_size: Largest batch of one rank.
        rank: Which rank this is.
        world_size: Number of ranks.
        num_workers: Worker processes that read samples; 0 reads in the main process.
        collate: Makes a batch of samples, for samples of unequal shapes.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        collate: Collate | None = None,
    ) -> None:
        self.data = data
        self.num_workers = num_workers
        self.collate = collate
        self.shares = shares(length_of(data), batch_size, rank, world_size)

    def __len__(self) -> int:
        return len(self.shares)

    def __iter__(self) -> Iterator[Batch]:
        if isinstance(self.data, dict):
            for share in self.shares:
                yield take(self.data, share)
        else:
            keys = [[(index, 0) for index in share.tolist()] for share in self.shares]
            yield from _read(self.data, keys, self.num_workers, self.collate)
