"""Corruption of token sequences: some tokens become masks.

``alpha(t)`` is the share of tokens that is kept at time t; it falls from 1 to 0. All here is
linear, ``alpha = 1 - t``: any other schedule is a change of the time variable, which a network
without a time input does not see (Zheng et al., arXiv:2409.02908).
"""

import torch
from torch import Tensor


def mask_by_time(tokens: Tensor, time: Tensor, uniform: Tensor, mask: int) -> Tensor:
    """Mask every token with probability ``time``.

    Args:
        tokens: Clean tokens, (B, L) int64.
        time: In [0, 1], (B,).
        uniform: In [0, 1), (B, L).
        mask: The token that stands for a mask.

    Returns:
        Tokens with masks, (B, L).
    """
    return tokens.masked_fill(uniform < time[:, None], mask)


def mask_by_count(tokens: Tensor, count: Tensor, uniform: Tensor, mask: int) -> Tensor:
    """Mask exactly ``count`` tokens of each row, every set of that size equally likely.

    Args:
        tokens: Clean tokens, (B, L) int64.
        count: How many of each row, (B,) int64 in 0 to L.
        uniform: In [0, 1), (B, L).
        mask: The token that stands for a mask.

    Returns:
        Tokens with masks, (B, L).
    """
    rank = uniform.argsort(dim=1).argsort(dim=1)
    return tokens.masked_fill(rank < count[:, None], mask)


def stratified_counts(uniform: Tensor, length: int | Tensor) -> Tensor:
    """A number of masks in 1 to ``length`` a row, spread evenly over the joint batch.

    Args:
        uniform: Stratified numbers in [0, 1), (B,).
        length: Tokens of a row that may be masked; one number, or (B,), of which 0 gives 0.

    Returns:
        Counts, (B,) int64.
    """
    largest = torch.as_tensor(length, device=uniform.device)
    return torch.minimum((uniform * largest).long() + 1, largest)


def is_masked(tokens: Tensor, mask: int) -> Tensor:
    """Which positions hold a mask, (B, L) bool."""
    return torch.eq(tokens, mask)
