"""What the losses of the consistency family share: the pair of estimates, and its weight."""

from typing import Literal

import torch
from torch import Tensor

from kdlight.core.noise import ReplayedDraws
from kdlight.diffusion.denoisers import Condition, Denoiser

PairWeight = Literal["constant", "inverse_gap", "edm"]


def pair_weight(
    sigma: Tensor, sigma_below: Tensor, weighting: PairWeight, sigma_data: float = 0.5
) -> Tensor:
    """Weight of a pair of levels.

    ``constant`` is 1 (arXiv:2303.01469), ``inverse_gap`` is ``1 / (sigma - sigma_below)``
    (arXiv:2310.14189, section 3.1), ``edm`` is ``1 / sigma^2 + 1 / sigma_data^2``, which
    consistency tuning takes for ImageNet. A pair without a gap, and so without a loss, weighs 0 in
    the second.

    Args:
        sigma: Upper noise levels, (B,).
        sigma_below: Lower noise levels, (B,).
        weighting: Which.
        sigma_data: Standard deviation of the data, for ``edm``.

    Returns:
        (B,), float64.
    """
    sigma = sigma.double()
    if weighting == "constant":
        return torch.ones_like(sigma)
    if weighting == "edm":
        return sigma**-2 + sigma_data**-2
    gap = sigma - sigma_below.double()
    return torch.where(gap > 0, 1 / gap, 0.0)


def consistency_pair(
    student: Denoiser,
    target: Denoiser,
    x: Tensor,
    sigma: Tensor,
    x_below: Tensor,
    sigma_below: Tensor,
    condition: Condition | None = None,
) -> tuple[Tensor, Tensor]:
    """``f(x, sigma)`` and, without gradient, ``f_target(x_below, sigma_below)``.

    Both passes see the same dropout masks (arXiv:2310.14189, section 3.1): with masks of their
    own, two estimates of the same model would differ by more than neighbouring levels make them.

    Args:
        student: The trained denoiser.
        target: The student itself, or its average.
        x: States at the upper levels, (B, ...).
        sigma: Upper levels, (B,).
        x_below: States at the lower levels.
        sigma_below: Lower levels, (B,). Where 0, the target is ``x_below`` itself.
        condition: What the samples are conditioned on.
    """
    draws = ReplayedDraws(x.device)
    estimate = student(x, sigma, condition)
    draws.rewind()
    with torch.no_grad():
        clean = sigma_below == 0
        # No network is asked at level 0, whose logarithm it cannot be told.
        safe = torch.where(clean, sigma, sigma_below)
        below = target(x_below, safe, condition)
        below = torch.where(clean.reshape(-1, *[1] * (x.ndim - 1)), x_below, below)
    return estimate, below


def tuned_level(
    sigma: Tensor, stage: int, q: float = 2.0, k: float = 8.0, b: float = 1.0
) -> Tensor:
    """The lower level of a pair in consistency tuning (arXiv:2406.14548, section 3.3).

    ``r = sigma (1 - q^-stage n(sigma))``, not below 0, with ``n(sigma) = 1 + k sigmoid(-b sigma)``.
    Where it is 0 the pair is plain denoising, which is how tuning starts at small noise; stage by
    stage the two levels move together.

    Args:
        sigma: Upper levels, any shape.
        stage: Counted from 1.
        q: Factor by which the relative gap shrinks from stage to stage, above 1.
        k: How much wider the gap is at small noise.
        b: Where small noise ends.

    Returns:
        Lower levels, float64, shape of ``sigma``.
    """
    sigma = sigma.double()
    wider = 1 + k * torch.sigmoid(-b * sigma)
    return (sigma * (1 - wider / q**stage)).clamp(min=0)
