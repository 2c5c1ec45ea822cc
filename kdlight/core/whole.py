"""Networks whose weights lie in shards on several ranks, and how to have them whole for a while."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def shards(module: nn.Module) -> list[FSDPModule]:
    """The parts of ``module`` that gather their weights from all ranks when they are called."""
    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def _inner(module: nn.Module) -> set[int]:
    """Those that lie inside another one."""
    return {
        id(below)
        for part in module.modules()
        if isinstance(part, FSDPModule)
        for below in nn.Module.modules(part)
        if below is not part
    }


@contextlib.contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """All weights of ``module`` on every rank inside the block, if they are sharded at all.

    For what cannot gather them on the way: forward-mode derivatives, and ranks that call a network
    a different number of times. All ranks enter and leave together; the memory is that of the
    unsharded networks.
    """
    parts = shards(module)
    inner = _inner(module)
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            # As torch has it: the outermost keeps its weights until the backward pass.
            part.set_reshard_after_forward(id(part) in inner, recurse=False)
            part.reshard()


def gathered(value: Tensor) -> Tensor:
    """A tensor of which every rank holds a shard, whole; any other as it is. All ranks ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as ``like`` lies: this rank's shard of it if that is sharded.

    Every rank cuts its own; nothing is exchanged.
    """
    if not isinstance(like, DTensor):
        return value
    mine = value.to(like.device, like.dtype)
    return distribute_tensor(mine, like.device_mesh, like.placements, src_data_rank=None)
