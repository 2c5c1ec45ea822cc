"""Weighted squared errors of denoisers, and the weightings the literature gives them.

Every weighting is a function of sigma for the error in x0, ``w(sigma) |x0_hat - x0|^2``. What a
network predicts is the wrapper's business; *which error counts how much* is decided here:

===============  ============================  =================================================
name             w(sigma)                      equals the plain error of
===============  ============================  =================================================
constant         1                             x0
snr              1 / sigma^2                   eps (DDPM's simple loss)
truncated_snr    max(1 / sigma^2, 1)           whichever of eps and x0 is larger
v                1 / sigma^2 + 1               v (SNR + 1)
flow             ((1 + sigma) / sigma)^2       the velocity eps - x0
edm              1 / sigma^2 + 1 / sigma_d^2   EDM's raw F (unit weight at initialisation)
===============  ============================  =================================================

``snr``, ``truncated_snr`` and ``v`` are section 4 of Salimans & Ho 2022 (arXiv:2202.00512), with
``SNR = alpha^2 / sigma_vp^2 = 1 / sigma^2``; ``edm`` is table 1 of Karras et al. 2022
(arXiv:2206.00364).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Weighting = Literal["constant", "snr", "truncated_snr", "v", "flow", "edm"]

_WEIGHTINGS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "constant": lambda sigma, sigma_data: torch.ones_like(sigma),
    "snr": lambda sigma, sigma_data: sigma**-2,
    "truncated_snr": lambda sigma, sigma_data: (sigma**-2).clamp(min=1),
    "v": lambda sigma, sigma_data: sigma**-2 + 1,
    "flow": lambda sigma, sigma_data: ((1 + sigma) / sigma) ** 2,
    "edm": lambda sigma, sigma_data: sigma**-2 + sigma_data**-2,
}


def weight_of(sigma: Tensor, weighting: Weighting, sigma_data: float = 0.5) -> Tensor:
    """Weight of the x0 error at each noise level.

    Args:
        sigma: Noise levels in data units, any shape.
        weighting: Row of the table above.
        sigma_data: Standard deviation of the data, for ``edm`` only.

    Returns:
        Weights, float64, shape of ``sigma``.
    """
    return _WEIGHTINGS[weighting](sigma.double(), sigma_data)


def weighted_squared_error(estimate: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``mean_b w_b mean_i (estimate - target)^2``, in float32 at least, autocast off.

    Args:
        estimate: (B, ...).
        target: (B, ...); no gradient flows into it.
        weight: (B,).

    Returns:
        Scalar.
    """
    with torch.autocast(estimate.device.type, enabled=False):
        dtype = torch.promote_types(estimate.dtype, torch.float32)
        error = nn.functional.mse_loss(
            estimate.to(dtype), target.detach().to(dtype), reduction="none"
        )
        error = error.flatten(1).mean(1)
        return (weight.to(error) * error).mean()
