"""Several processes that ``torchrun`` started, working on one evaluation."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist

from kdlight.errors import InputError

T = TypeVar("T")


class Process(NamedTuple):
    """This process among those that share the work.

    Attributes:
        rank: Its number.
        world: How many there are.
        device: Where it works.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def speaks(self) -> bool:
        """Whether it is the one that prints and writes."""
        return self.rank == 0

    def mine(self, index: int) -> bool:
        """Whether batch number ``index`` is this process's."""
        return index % self.world == self.rank

    def in_turn(self, make: Callable[[], T]) -> T:
        """What ``make`` returns: first of all on the first process, which may fetch files."""
        if self.world == 1:
            return make()
        if not self.speaks:
            dist.barrier()
        made = make()
        if self.speaks:
            dist.barrier()
        return made


@contextmanager
def processes(device: torch.device) -> Iterator[Process]:
    """This process alone, or one of those that ``torchrun --nproc_per_node N`` started.

    Args:
        device: What ``--device`` says; of several GPUs every process of a machine takes its own.

    Raises:
        InputError: There are more processes than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Process(0, 1, device)
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                f"torchrun: expected at most {torch.cuda.device_count()} processes for as many "
                f"GPUs, found process {local}."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Process(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
