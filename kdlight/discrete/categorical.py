"""Exact draws of tokens.

The usual Gumbel draw in float32 is not one: ``torch.rand`` stops at 1 - 2^-24, which cuts the
Gumbel numbers at 24 log 2 = 16.6 and takes mass from rare classes, as a lower temperature would
(Zheng et al., arXiv:2409.02908, section 5). Here one float64 number a draw is looked up in the
cumulative sum of float64 probabilities.
"""

import torch
from torch import Tensor


def draw(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw a class a row.

    Args:
        log_probs: Log-probabilities, (..., V); need not be normalised, -inf is never drawn.
        uniform: Numbers in [0, 1), float64, (...).

    Returns:
        Classes, int64, (...).
    """
    return draw_several(log_probs, uniform[..., None]).squeeze(-1)


def draw_several(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw k classes a row, independently; the sums are made once.

    Args:
        log_probs: As in :func:`draw`.
        uniform: Numbers in [0, 1), float64, (..., k).

    Returns:
        Classes, int64, (..., k).
    """
    cumulative = log_probs.double().softmax(dim=-1).cumsum(dim=-1)
    total = cumulative[..., -1:].contiguous()
    # Right of all classes whose sum is not above the number: those of probability 0 among them.
    found = torch.searchsorted(cumulative, uniform.double() * total, right=True)
    # Rounding may carry the product to the total itself: the last class that added to it.
    last = torch.searchsorted(cumulative, total)
    return torch.minimum(found, last)
