"""What all ranks of a run know together."""

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def joint_sum(value: Tensor) -> Tensor:
    """``value`` summed over all ranks; ``value`` itself on one."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def joint_average(value: Tensor) -> Tensor:
    """Plain mean of ``value``, (B,), over the joint batch, without gradient."""
    total, count = joint_sum(torch.stack([value.sum(), value.new_tensor(float(len(value)))]))
    average: Tensor = total / count
    return average


@torch.no_grad()
def joint_rows(value: Tensor) -> Tensor:
    """The rows of all ranks in the order of the joint batch, whose row i is on rank i % ranks.

    Args:
        value: (B, ...), of one shape on all ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def joint_other(value: Tensor, step: Tensor, rank: int) -> Tensor:
    """For each row of this rank the row ``step`` (B,) places further in the joint batch, around."""
    everyone = joint_rows(value)
    ranks = len(everyone) // len(value)
    own = torch.arange(len(value), device=value.device) * ranks + rank
    return everyone[(own + step) % len(everyone)]


def joint_batch(value: Tensor) -> Tensor:
    """:func:`joint_rows`, for a loss that every rank computes of the joint batch.

    The gradient reaches this rank's rows alone, times the ranks, so that the mean over ranks is
    the gradient that one process would have.

    Args:
        value: (B, ...), of one shape on all ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    ranks, rank = dist.get_world_size(), dist.get_rank()
    rows = joint_rows(value).clone()
    rows[rank::ranks] = value.detach() + ranks * (value - value.detach())
    return rows


def joint_mean(values: Tensor, weights: Tensor) -> Tensor:
    """This rank's share of the weighted mean over the joint batch, for losses.

    Times the ranks, so that the mean over ranks of the gradients, which is what they exchange, is
    the gradient of that mean, however unevenly the weights are dealt out. A mean of the ranks' own
    means is not.

    Args:
        values: Of any shape.
        weights: Of that shape, such as which tokens are scored; not all 0.
    """
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    return (values * weights).sum() * ranks / joint_sum(weights.sum())


@torch.no_grad()
def of_first_rank(value: Tensor) -> Tensor:
    """``value`` of rank 0 on every rank, bit for bit."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    common = value.clone()
    dist.broadcast(common, src=0)
    return common
