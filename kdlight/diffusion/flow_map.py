"""Flow maps: denoisers that jump along the probability flow from a noise level to any lower one."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat
from kdlight.diffusion.denoisers import Condition, Denoiser, evaluate, expand
from kdlight.errors import InputError


class FlowMap(Denoiser):
    """Base of the flow maps. Their estimate of the clean sample is the jump to level 0."""

    def jump(
        self, x: Tensor, sigma: Tensor, sigma_next: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """Where the probability flow that passes ``x`` at ``sigma`` is at ``sigma_next``.

        Args:
            x: Noisy data ``x0 + sigma * eps``, (B, ...).
            sigma: Noise level in data units, () or (B,).
            sigma_next: Level to jump to, from 0 to ``sigma``, () or (B,).
            condition: What the sample is conditioned on.

        Returns:
            The state at ``sigma_next``, shape and dtype of ``x``.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        return self.jump(x, sigma, torch.zeros_like(sigma), condition)


class MeanFlowDenoiser(FlowMap):
    """A network of the average velocity ``u(z_t, r, t)`` on ``z_t = (1 - t) x0 + t eps``.

    ``z_r = z_t - (t - r) u(z_t, r, t)`` (Geng et al. 2025, arXiv:2505.13447, eq. 3), with
    ``t = sigma / (1 + sigma)``. The paper starts at t = 1, where sigma is infinite; here samples
    start at ``sigma_max`` from the unit noise itself, as the paper's do.

    Args:
        network: Called as ``network(z_t, t * time_scale, condition)``, where
            ``condition["interval"]`` is ``(t - r) * time_scale``: the paper's best pair to
            embed (table 1c). Like the paper's it sees ``z_t`` as it is, for data of a standard
            deviation of the order 1.
        time_scale: Factor on both times.
        sigma_min: Smallest noise level to sample with.
        sigma_max: Largest noise level to sample with; ``t`` is then 0.999.

    Raises:
        InputError: The network is not told the interval.
    """

    def __init__(
        self,
        network: nn.Module,
        time_scale: PositiveFloat = 1.0,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 1000.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        told = getattr(network, "interval", False)
        if not told:
            raise InputError(
                f"network: expected one with interval true, which is told how far a jump goes, "
                f"found interval {str(told).lower()}."
            )
        self.network = network
        self.time_scale = time_scale

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """``(1 + sigma) * noise``: the network is shown the unit noise itself."""
        return ((1 + expand(sigma, noise)) * noise).to(noise.dtype)

    def velocity(
        self, z: Tensor, r: Tensor, t: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """Average velocity between two times, the velocity itself where they are equal.

        Args:
            z: States ``(1 - t) x0 + t eps``, (B, ...).
            r: Times to go back to, (B,), from 0 to ``t``.
            t: Times of the states, (B,), at most 1.
            condition: What the samples are conditioned on.

        Returns:
            ``u(z, r, t)``, shape and dtype of ``z``.
        """
        told = {**(condition or {}), "interval": (t - r) * self.time_scale}
        return evaluate(self.network, z, t * self.time_scale, told)

    def jump(
        self, x: Tensor, sigma: Tensor, sigma_next: Tensor, condition: Condition | None = None
    ) -> Tensor:
        sigma, sigma_next = expand(sigma, x), expand(sigma_next, x)
        t, r = sigma / (1 + sigma), sigma_next / (1 + sigma_next)
        with torch.autocast(x.device.type, enabled=False):
            z = (1 / (1 + sigma)).to(x.dtype) * x
        u = self.velocity(z, r.flatten(), t.flatten(), condition)
        with torch.autocast(x.device.type, enabled=False):
            z_next = z - (t - r).to(x.dtype) * u
            return (1 + sigma_next).to(x.dtype) * z_next
