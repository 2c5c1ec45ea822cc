"""Denoisers out of networks that were trained in other coordinates: VP and flow."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat
from kdlight.diffusion.denoisers import ArcDenoiser, Condition, evaluate, expand
from kdlight.diffusion.schedules import Schedule, alphas_cumprod_of, sigma_from_alpha_bar
from kdlight.errors import InputError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class VPDenoiser(ArcDenoiser):
    """A discrete-time variance-preserving network in the convention of diffusers.

    The network sees ``z = sqrt(abar) x0 + sqrt(1 - abar) eps`` and a timestep, and predicts
    ``epsilon``, ``v_prediction`` (``sqrt(abar) eps - sqrt(1 - abar) x0``; Salimans & Ho 2022,
    arXiv:2202.00512, appendix D) or ``sample``. With ``sigma = sqrt((1 - abar) / abar)`` its
    coordinates are ``x = z * sqrt(1 + sigma^2)``.

    Args:
        network: Called as ``network(z, timestep, condition)``.
        schedule: Name of a schedule of 1,000 steps, or alpha_bar of every timestep.
        prediction: What the network predicts.
        sigma_data: Standard deviation of the data: 0.5 for pictures, 1 for scaled latents.

    Between timesteps the network is given the fractional timestep interpolated in log sigma.

    Attributes:
        alphas_cumprod: alpha_bar of every timestep, float64. No buffer: a module that is cast to
            a lower precision keeps its schedule exact.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule | Sequence[float] = "linear",
        prediction: str = "epsilon",
        sigma_data: PositiveFloat = 0.5,
    ) -> None:
        if prediction not in PREDICTIONS:
            raise InputError(
                f"prediction: expected one of {', '.join(PREDICTIONS)}, found {prediction!r}."
            )
        alphas_cumprod = alphas_cumprod_of(schedule)
        sigmas = sigma_from_alpha_bar(alphas_cumprod)
        super().__init__(float(sigmas[0]), float(sigmas[-1]))
        self.alphas_cumprod = alphas_cumprod
        self.network = network
        self.prediction = prediction
        self.sigma_data = sigma_data
        self._log_sigmas = sigmas.log()

    def timestep(self, sigma: Tensor) -> Tensor:
        """Timestep of a noise level, an exact integer on the schedule, fractional between."""
        log_sigma = sigma.double().log()
        table = self._log_sigmas.to(sigma.device)
        high = torch.searchsorted(table, log_sigma.contiguous()).clamp(1, len(table) - 1)
        low = high - 1
        fraction = (log_sigma - table[low]) / (table[high] - table[low])
        step = low + fraction.clamp(0, 1)
        nearest = step.round()
        # Rounded, not cut off: along a path the timestep still has its rate.
        return step + torch.where((step - nearest).abs() < 1e-4, nearest - step, 0).detach()

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """``sqrt(1 + sigma^2) * noise``, so that ``z`` is the unit noise itself."""
        return ((1 + expand(sigma, noise) ** 2).sqrt() * noise).to(noise.dtype)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        alpha = (1 + sigma**2).rsqrt()
        with torch.autocast(x.device.type, enabled=False):
            z = alpha.to(x.dtype) * x
        raw = evaluate(self.network, z, self.timestep(sigma), condition)
        with torch.autocast(x.device.type, enabled=False):
            if self.prediction == "sample":
                return raw
            if self.prediction == "v_prediction":
                return alpha.to(x.dtype) * z - (sigma * alpha).to(x.dtype) * raw
            return x - sigma.to(x.dtype) * raw


class FlowDenoiser(ArcDenoiser):
    """A velocity network ``u = eps - x0`` on ``x_t = (1 - t) x0 + t eps`` (rectified flow).

    ``t = sigma / (1 + sigma)`` (Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022,
    arXiv:2210.02747, with time running from data to noise).

    Args:
        network: Called as ``network(x_t, t * time_scale, condition)``.
        time_scale: Factor on the time the network sees, 1000 for diffusers' models.
        sigma_max: Largest noise level to sample with; ``t`` is then just below one.
        sigma_data: Standard deviation of the data: 0.5 for pictures, 1 for scaled latents.
    """

    def __init__(
        self,
        network: nn.Module,
        time_scale: PositiveFloat = 1.0,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 200.0,
        sigma_data: PositiveFloat = 0.5,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.network = network
        self.sigma_data = sigma_data
        self.time_scale = time_scale

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """``(1 + sigma) * noise``: the network is shown the unit noise itself."""
        return ((1 + expand(sigma, noise)) * noise).to(noise.dtype)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        t = sigma / (1 + sigma)
        with torch.autocast(x.device.type, enabled=False):
            x_t = (1 - t).to(x.dtype) * x
        velocity = evaluate(self.network, x_t, t * self.time_scale, condition)
        with torch.autocast(x.device.type, enabled=False):
            return x_t - t.to(x.dtype) * velocity
