"""Denoisers as EDM rewrites its predecessors (arXiv:2206.00364, table 1, columns VP and VE)."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat, Range
from kdlight.diffusion.denoisers import Condition, Denoiser, evaluate, expand


class VEDenoiser(Denoiser):
    """Raw network F of a variance-exploding model: ``D = x + sigma F(x, log(sigma / 2))``.

    Args:
        network: Called as ``network(x, log(sigma / 2), condition)``.
        sigma_min: Smallest noise level to sample with.
        sigma_max: Largest noise level to sample with.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_min: NonNegativeFloat = 0.02,
        sigma_max: PositiveFloat = 100.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        raw = evaluate(self.network, x, (sigma / 2).log(), condition)
        with torch.autocast(x.device.type, enabled=False):
            return x + sigma.to(x.dtype) * raw


class ContinuousVPDenoiser(Denoiser):
    """Raw network F of a variance-preserving model of continuous time, which predicts eps.

    ``D = x - sigma F(x / sqrt(1 + sigma^2), time_scale t(sigma))`` where
    ``sigma^2 = exp(beta_d t^2 / 2 + beta_min t) - 1``, t in 0 to 1.

    Args:
        network: Called as ``network(z, time_scale * t, condition)``.
        beta_d: How far the noise rate rises over the unit of time.
        beta_min: Noise rate at time 0.
        time_scale: Factor on the time the network sees.
        epsilon_t: Smallest time to sample with; the largest is 1.
    """

    def __init__(
        self,
        network: nn.Module,
        beta_d: NonNegativeFloat = 19.9,
        beta_min: NonNegativeFloat = 0.1,
        time_scale: PositiveFloat = 999.0,
        epsilon_t: Annotated[float, Range(0, 1, above=True)] = 1e-5,
    ) -> None:
        self.beta_d, self.beta_min, self.time_scale = beta_d, beta_min, time_scale
        super().__init__(*(self._sigma(t) for t in (epsilon_t, 1.0)))
        self.network = network

    def _sigma(self, t: float) -> float:
        return math.sqrt(math.expm1(self.beta_d * t**2 / 2 + self.beta_min * t))

    def time(self, sigma: Tensor) -> Tensor:
        """Time t of a noise level, float64."""
        square = self.beta_min**2 + 2 * self.beta_d * torch.log1p(sigma.double() ** 2)
        return (square.sqrt() - self.beta_min) / self.beta_d

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """``sqrt(1 + sigma^2) * noise``: the network is shown the unit noise itself."""
        return ((1 + expand(sigma, noise) ** 2).sqrt() * noise).to(noise.dtype)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        with torch.autocast(x.device.type, enabled=False):
            z = (1 + sigma**2).rsqrt().to(x.dtype) * x
        raw = evaluate(self.network, z, self.time_scale * self.time(sigma), condition)
        with torch.autocast(x.device.type, enabled=False):
            return x - sigma.to(x.dtype) * raw
