"""Signal models: students that read noise alone and say what of a sample shows at any level."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat
from kdlight.diffusion.denoisers import Condition, Denoiser, evaluate, expand
from kdlight.errors import InputError


class SignalDenoiser(Denoiser):
    """Raw network F of the signal ``y(sigma) = x(sigma) - sigma * eps`` (BOOT, arXiv:2306.05544).

    ``x(sigma)`` is the path of the probability flow that starts at the noise ``eps``. From
    ``dx/dsigma = (x - D) / sigma`` follows the signal's own equation,
    ``dy/dlog(sigma) = y - D(y + sigma * eps, sigma)``, the paper's Signal-ODE; ``y(0) = x0``.

    ``y = sigma_data * F(eps, c_noise)`` with ``c_noise = log(sigma^2 + sigma_min^2) / 8``: EDM's
    ``log(sigma) / 4`` at levels far above ``sigma_min``, yet finite at level 0, where the sample
    is. At ``sigma_max`` a copied EDM network gives ``D(sigma_max * eps, sigma_max)`` up to
    ``sigma_data^2 / sigma_max``, which is where the signal starts.

    It is only a map from pure noise: as a denoiser it takes all of ``x`` to be noise, whatever
    the level, so that one step of a walk from ``sigma_max`` samples and no second step exists.

    Args:
        network: Called as ``network(eps, c_noise, condition)``.
        sigma_data: Standard deviation of the data.
        sigma_min: Smallest noise level that F tells apart from 0.
        sigma_max: Level at which the paths start.

    Raises:
        InputError: ``sigma_min`` is 0.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: PositiveFloat = 0.5,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        if sigma_min == 0:
            raise InputError(
                "sigma_min: expected a noise level above 0, which level 0 is told as, found 0."
            )
        self.network = network
        self.sigma_data = sigma_data

    def signal(self, noise: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """What of the sample shows at a level of its path.

        Args:
            noise: The unit noise ``eps`` the paths start at, (B, ...).
            sigma: Noise level in data units, from 0 to ``sigma_max``, () or (B,).
            condition: What the samples are conditioned on.

        Returns:
            ``y(sigma)``, shape and dtype of ``noise``; the clean sample at level 0.
        """
        c_noise = (expand(sigma, noise) ** 2 + self.sigma_min**2).log() / 8
        return self.sigma_data * evaluate(self.network, noise, c_noise, condition)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            noise = (x / expand(sigma, x)).to(x.dtype)
        return self.signal(noise, torch.zeros_like(sigma), condition)
