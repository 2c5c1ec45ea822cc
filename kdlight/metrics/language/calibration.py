"""Is a model right as often as it is sure; and the temperature that makes its confidence honest."""

import math

import numpy as np
import torch
from scipy.fft import dct, idct
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

BINS = 15
"""Bins of equal width of the confidence."""
GRID = 1000
"""Places in [0, 1] of the smooth error."""
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


def binned(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
    """Sums of confidence and of being right by bin of confidence, (bins, 2) float64.

    Args:
        confidence: In [0, 1], (N,).
        right: How probable it is to be right, or whether it is, (N,).
        bins: Of equal width.
    """
    place = (confidence * bins).long().clamp(max=bins - 1)
    sums = torch.zeros(bins, 2, dtype=torch.float64, device=confidence.device)
    return sums.index_add(0, place, torch.stack([confidence, right], dim=1).double())


def binned_error(sums: Tensor, count: Tensor) -> Tensor:
    """Expected calibration error of :func:`binned` sums (Guo et al., arXiv:1706.04599, eq. 3)."""
    return (sums[:, 0] - sums[:, 1]).abs().sum() / count


def smooth_error(sums: Tensor, count: Tensor) -> Tensor:
    """Smooth calibration error (Blasiok & Nakkiran, arXiv:2309.12236, definition 3 and eq. 8).

    The gap between confidence and being right, as a function of confidence, is smoothed by a
    Gaussian that is reflected at 0 and 1, and the integral of its size taken; the width is the one
    that the error itself has. Unlike the binned one it does not jump when a bin's edge moves.

    Args:
        sums: :func:`binned` with many bins, (G, 2).
        count: Values in all, ().
    """
    gap = dct(((sums[:, 1] - sums[:, 0]) / count).cpu().numpy())
    waves = math.pi * np.arange(len(gap))

    def error(width: float) -> float:
        # The cosine transform is one of the values mirrored at both ends: a product in it is the
        # convolution with a Gaussian that is reflected.
        return float(np.abs(idct(gap * np.exp(-((waves * width) ** 2) / 2))).sum())

    narrowest, widest = 1 / len(gap), 1.0
    if error(narrowest) <= narrowest:
        return torch.tensor(error(narrowest), dtype=torch.float64)
    found = brentq(lambda width: error(width) - width, narrowest, widest, xtol=1e-6)
    return torch.tensor(found, dtype=torch.float64)
