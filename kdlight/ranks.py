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
