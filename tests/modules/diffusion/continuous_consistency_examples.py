"""What the tests of continuous consistency share."""

import math

import torch
from torch import Tensor

from kdlight.diffusion.mixture import MixtureDenoiser

MEAN, STD = 0.3, 0.4
SIGMA_DATA = 0.5


def times(count: int = 64) -> Tensor:
    return torch.linspace(0.01, math.pi / 2 - 0.01, count, dtype=torch.float64)


def oracle() -> MixtureDenoiser:
    return MixtureDenoiser([[MEAN] * 3], STD**2)


def end_of_ode(x: Tensor, sigma: Tensor | float) -> Tensor:
    """f*: where the ODE of N(MEAN, STD^2) that passes through x at sigma ends."""
    return MEAN + STD / (STD**2 + torch.as_tensor(sigma) ** 2).sqrt() * (x - MEAN)
