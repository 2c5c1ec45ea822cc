"""The order of training data: a pure function of a seed and a position, the same on any ranks."""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError


def seeded(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of ``device`` whose stream depends on the whole ``key`` (integers >= 0).

    numpy's ``SeedSequence`` mixes the key, so that neighbouring seeds, epochs and samples get
    unrelated streams; ``seed + epoch`` would make epoch 1 of seed 0 equal to epoch 0 of seed 1.
    """
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


def positive(name: str, value: int, least: int = 1) -> int:
    """``value`` if it is at least ``least``.

    Raises:
        InputError: It is not.
    """
    if value < least:
        raise InputError(f"{name}: expected at least {least}, found {value}.")
    return value


# A batch may span two epochs (more only if it exceeds the data set); both stay at hand, and those
# of a second loader.
@functools.lru_cache(maxsize=4)
def permutation(size: int, seed: int, epoch: int) -> Tensor:
    """Order of the samples in one pass over the data, (size,) int64."""
    return torch.randperm(size, generator=seeded(seed, epoch, 0))


@functools.lru_cache(maxsize=4)
def coins(size: int, seed: int, epoch: int) -> Tensor:
    """A fair coin for every sample in one pass over the data, (size,) bool."""
    return torch.rand(size, generator=seeded(seed, epoch, 1)) < 0.5


class Order:
    """An endless row of samples, cut into global batches that ranks share.

    The row is the concatenation of one permutation per data epoch, drawn from (seed, epoch).
    Global batch n is its samples ``n * global_batch`` to ``(n + 1) * global_batch``, across epoch
    boundaries, of which a rank takes every ``world_size``-th. So two ranks with batch size B see
    exactly the samples of one process with batch size 2B.

    Args:
        size: Number of samples.
        batch_size: Batch size of one rank.
        seed: Seed of the order.
        rank: Which rank this is.
        world_size: Number of ranks.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size = positive("size of the training data", size)
        self.batch_size = positive("batch_size", batch_size)
        self.seed = positive("seed", seed, 0)
        self.rank = rank
        self.world_size = world_size
        self.global_batch = batch_size * world_size

    def rows(self, batch: int) -> list[tuple[int, Tensor]]:
        """The rank's share of global batch number ``batch``.

        Returns:
            Pairs of a data epoch and the sample indices (n,) int64 taken from it, in order; their
            n sum to the batch size. Nearly always one pair.
        """
        position = batch * self.global_batch + self.rank
        stop = (batch + 1) * self.global_batch
        parts = []
        while position < stop:
            epoch, start = divmod(position, self.size)
            share = permutation(self.size, self.seed, epoch)[
                start : start + stop - position : self.world_size
            ]
            parts.append((epoch, share))
            position += len(share) * self.world_size
        return parts


def shares(size: int, batch_size: int, rank: int, world_size: int) -> list[Tensor]:
    """Indices for one ordered pass: rank r takes samples r, r + world_size, ...

    Every rank gets the same number of batches, of nearly equal sizes, because a forward pass
    through DistributedDataParallel is a collective call also in validation. (Only with fewer
    samples than ranks does a rank get none.)

    Returns:
        Index tensors of at most ``batch_size`` each; with batch size 1, one may hold two.
    """
    mine = torch.arange(size)[rank::world_size]
    batches = math.ceil(math.ceil(size / world_size) / positive("batch_size", batch_size))
    # At batch size 1 the ranks with one sample more would otherwise have one batch more.
    batches = min(batches, size // world_size)
    return [share for share in mine.tensor_split(max(batches, 1)) if len(share)]
