"""Bounds on the mutual information of two features, from the scores of a critic."""

import math

import torch
from torch import Tensor


def information_bound(scores: Tensor, alpha: float = 0.1, baseline: float = 0.0) -> Tensor:
    """A lower bound on I(x; y) in nats (Poole et al., arXiv:1905.06922, eq. 16; MI-alpha).

    With m(y) the mean of exp f(x, y) over the x of the batch,

        1 + E[f(x, y) - log d(y)] - E'[exp f(x', y) / d(y)],    d = alpha m + (1 - alpha) exp b

    alpha 1 is InfoNCE, at most log K and of little variance; alpha 0 is NWJ, unbiased at the best
    critic and of large variance; between them E is at most log(K / alpha). In E' y must not depend
    on the x it is held against, so that its own partner is left out of m there; with it the value
    exceeds what it bounds. Distiller (arXiv:2109.11105) trains students by it.

    Args:
        scores: f(x_j, y_i), (K, K); partners on the diagonal; K at least 2.
        alpha: In [0, 1].
        baseline: The number b.

    Returns:
        (), to be made large.
    """
    count = len(scores)
    together = scores.diagonal()
    first = together - _mixed(scores.logsumexp(dim=1) - math.log(count), alpha, baseline)
    own = torch.eye(count, dtype=torch.bool, device=scores.device)
    apart = scores.masked_fill(own, -torch.inf).logsumexp(dim=1) - math.log(count - 1)
    second = (apart - _mixed(apart, alpha, baseline)).exp()
    return (1 + first - second).mean()


def _mixed(log_mean: Tensor, alpha: float, baseline: float) -> Tensor:
    """Log of ``alpha m + (1 - alpha) exp(baseline)``."""
    first = math.log(alpha) if alpha > 0 else -math.inf
    second = math.log1p(-alpha) + baseline if alpha < 1 else -math.inf
    return torch.logaddexp(log_mean + first, torch.full_like(log_mean, second))
