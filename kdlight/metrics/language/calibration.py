"""One temperature that makes a model's confidence honest."""

import math

from scipy.optimize import minimize_scalar
from torch import Tensor

LIMIT = 4.0
"""Temperatures are sought between exp(-4) and exp(4)."""


def fitted_temperature(logits: Tensor, tokens: Tensor) -> float:
    """The temperature under which held-out tokens are likeliest (Guo et al., arXiv:1706.04599).

    FIRST (arXiv:2408.12168) recalibrates its teacher by it. The mean negative log-likelihood is
    convex in the inverse temperature, so that one minimum is found.

    Args:
        logits: (N, V).
        tokens: What stood there, (N,) int64.
    """
    wide = logits.double()
    own = wide.gather(1, tokens[:, None])[:, 0].mean()

    def nll(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float((wide * scale).logsumexp(dim=1).mean() - own * scale)

    found = minimize_scalar(nll, bounds=(-LIMIT, LIMIT), method="bounded", options={"xatol": 1e-7})
    return math.exp(found.x)
