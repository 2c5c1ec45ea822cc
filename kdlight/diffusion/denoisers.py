"""Denoisers ``D(x, sigma, condition) -> x0_hat``: every network, wrapped once at the boundary.

All of kdlight works in variance-exploding coordinates ``x = x0 + sigma * eps``. A network that
was trained in other coordinates is translated here and nowhere else, so a method file never
mentions alpha_bar or a velocity.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat
from kdlight.core.spec import Recorded
from kdlight.errors import InputError

Condition = dict[str, Tensor]
"""What a sample is conditioned on: ``label`` (B,) integers, ``augment`` (B, A), ``text``
(B, L, D) with its ``text_mask`` (B, L) and ``pooled`` (B, P), ``time_ids`` (B, 6), ..."""

GUIDED = ("label", "text", "text_mask", "pooled")
"""What classifier-free guidance extrapolates away from, all of it together."""


def without(condition: Condition | None, *names: str) -> Condition:
    """A condition without the entries ``names``; a network has something to put in their place."""
    return {name: value for name, value in (condition or {}).items() if name not in names}


def expand(sigma: Tensor, x: Tensor) -> Tensor:
    """Noise levels () or (B,) as float64 of shape (B, 1, ..., 1) that broadcasts over ``x``."""
    sigma = sigma.to(device=x.device, dtype=torch.float64).expand(len(x))
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def evaluate(network: nn.Module, x: Tensor, noise: Tensor, condition: Condition | None) -> Tensor:
    """Call ``network`` in its own precision; the result comes back in the precision of ``x``.

    The noise number is never rounded below float32: bfloat16 has no timestep 999.
    """
    parameter = next(network.parameters(), None)
    dtype = x.dtype if parameter is None else parameter.dtype
    noise = noise.flatten().to(torch.promote_types(dtype, torch.float32))
    output: Tensor = network(x.to(dtype), noise, condition)
    return output.to(x.dtype)


class Denoiser(Recorded, nn.Module):
    """Base of everything that estimates clean data from noisy data.

    Attributes:
        sigma_min: Smallest noise level the denoiser is meant for, in data units.
        sigma_max: Largest noise level the denoiser is meant for, in data units.
        boundary: Noise level that is left in its estimates: where it is the identity, 0 but for
            consistency models.
        provenance: Where the weights came from (path and hash), empty if made here.
    """

    sigma_min: float
    sigma_max: float
    boundary: float = 0.0
    provenance: dict[str, str]

    def __init__(self, sigma_min: NonNegativeFloat, sigma_max: PositiveFloat) -> None:
        super().__init__()
        if not 0 <= sigma_min < sigma_max:
            raise InputError(
                f"sigma_min: expected 0 <= sigma_min < sigma_max, "
                f"found sigma_min {sigma_min} and sigma_max {sigma_max}."
            )
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.provenance = {}

    @property
    def num_classes(self) -> int:
        """Number of classes that ``condition["label"]`` may name; 0 if unconditional."""
        return int(getattr(getattr(self, "network", None), "num_classes", 0))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that its network can be told."""
        inside = getattr(self, "network", None) or getattr(self, "denoiser", None)
        known = getattr(inside, "conditions", None)
        if known is None:
            return ("label",) if self.num_classes else ()
        return tuple(known)

    def condition_of(self, batch: Mapping[str, Any]) -> Condition:
        """What of a batch the network can be told.

        Raises:
            InputError: The batch has neither label nor text for a network that is told one.
        """
        found = {name: batch[name] for name in self.conditions if name in batch}
        needed = [name for name in self.conditions if name in ("label", "text")]
        if needed and not any(name in found for name in needed):
            raise InputError(
                f"data: expected batches with {' or '.join(needed)}, which the model is told, "
                f"found {', '.join(batch)}."
            )
        return found

    @property
    def network_calls(self) -> int:
        """Network evaluations (NFE) of one call with a full condition."""
        return 1

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """The starting point at the first noise level for unit Gaussian ``noise``."""
        return (expand(sigma, noise) * noise).to(noise.dtype)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """Estimate the clean sample.

        Args:
            x: Noisy data ``x0 + sigma * eps``, (B, ...).
            sigma: Noise level in data units, () or (B,).
            condition: What the sample is conditioned on.

        Returns:
            The estimate of ``x0``, shape and dtype of ``x``.
        """
        raise NotImplementedError


class ArcDenoiser(Denoiser):
    """Base of the denoisers whose network can be read as TrigFlow's F, in continuous time.

    Attributes:
        sigma_data: Standard deviation of the data.
    """

    sigma_data: float

    def velocity(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """``F(x, t)``; of a diffusion model ``sigma_data F`` is its ODE's velocity ``dx_t/dt``.

        Any denoiser has one: ``F = (cos t x - D / sigma_data) / sin t``, with D at
        ``sigma = sigma_data tan t`` (Lu & Song 2024, arXiv:2410.11081, section 3).

        Args:
            x: The state on the arc over the data's spread, ``x_t / sigma_data``, (B, ...).
            t: Time on the arc, (B,), float64, in (0, pi/2).
            condition: What the sample is conditioned on.
        """
        cos, sin = expand(t.cos(), x).to(x.dtype), expand(t.sin(), x).to(x.dtype)
        x0: Tensor = self(self.sigma_data * x / cos, self.sigma_data * t.tan(), condition)
        return (cos * x - x0 / self.sigma_data) / sin


class EDMDenoiser(ArcDenoiser):
    """Raw network F preconditioned as in EDM (Karras et al. 2022, arXiv:2206.00364, table 1).

    Args:
        network: Called as ``network(c_in * x, c_noise, condition)``.
        sigma_data: Standard deviation of the data.
        sigma_min: Smallest noise level to sample with.
        sigma_max: Largest noise level to sample with.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: PositiveFloat = 0.5,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.network = network
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        c_in = (sigma**2 + self.sigma_data**2).rsqrt()
        c_skip = (self.sigma_data * c_in) ** 2
        c_out = self.sigma_data * c_in * sigma
        with torch.autocast(x.device.type, enabled=False):
            scaled = c_in.to(x.dtype) * x
        raw = evaluate(self.network, scaled, sigma.log() / 4, condition)
        with torch.autocast(x.device.type, enabled=False):
            return c_skip.to(x.dtype) * x + c_out.to(x.dtype) * raw

    def velocity(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """TrigFlow's F of this network: see :meth:`ArcDenoiser.velocity`.

        With ``sigma = sigma_data tan t`` EDM's preconditioning is TrigFlow's, ``c_skip = cos^2 t``,
        ``c_out = sigma_data sin t`` and ``c_in x = x_t / sigma_data``, but for the sign of F.
        """
        return -evaluate(self.network, x, (self.sigma_data * t.tan()).log() / 4, condition)


class TrigFlowDenoiser(ArcDenoiser):
    """Raw network F preconditioned as in TrigFlow (Lu & Song 2024, arXiv:2410.11081, section 3).

    ``D = cos t x_t - sin t sigma_data F(x_t / sigma_data, t)`` on the arc
    ``x_t = cos t x0 + sin t z`` with ``z ~ N(0, sigma_data^2 I)``, which in kdlight's coordinates
    is ``x_t = cos t x`` and ``sigma = sigma_data tan t``. ``D(x, 0) == x`` holds exactly.

    Args:
        network: Called as ``network(x_t / sigma_data, time_scale * t, condition)``, t in 0 to pi/2.
        sigma_data: Standard deviation of the data.
        sigma_min: Smallest noise level to sample with.
        sigma_max: Largest noise level to sample with.
        time_scale: Factor on the time the network sees.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: PositiveFloat = 0.5,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
        time_scale: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.network = network
        self.sigma_data = sigma_data
        self.time_scale = time_scale

    def velocity(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """The network's own output: see :meth:`ArcDenoiser.velocity`."""
        return evaluate(self.network, x, self.time_scale * t, condition)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        t = (expand(sigma, x) / self.sigma_data).atan()
        with torch.autocast(x.device.type, enabled=False):
            x_t = t.cos().to(x.dtype) * x
            scaled = x_t / self.sigma_data
        raw = self.velocity(scaled, t.flatten(), condition)
        with torch.autocast(x.device.type, enabled=False):
            return t.cos().to(x.dtype) * x_t - (self.sigma_data * t.sin()).to(x.dtype) * raw


class ConsistencyDenoiser(Denoiser):
    """Raw network F with the boundary preconditioning of consistency models.

    ``D(x, sigma_min) == x`` holds exactly (Song et al. 2023, arXiv:2303.01469, appendix C).

    Args:
        network: Called as ``network(c_in * x, c_noise, condition)``.
        sigma_data: Standard deviation of the data.
        sigma_min: Noise level of the boundary.
        sigma_max: Largest noise level.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: PositiveFloat = 0.5,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        self.network = network
        self.sigma_data = sigma_data
        self.boundary = sigma_min

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        above = sigma - self.sigma_min
        total = (sigma**2 + self.sigma_data**2).sqrt()
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        c_out = self.sigma_data * above / total
        with torch.autocast(x.device.type, enabled=False):
            scaled = (1 / total).to(x.dtype) * x
        raw = evaluate(self.network, scaled, sigma.log() / 4, condition)
        with torch.autocast(x.device.type, enabled=False):
            return c_skip.to(x.dtype) * x + c_out.to(x.dtype) * raw


class BoundaryDenoiser(Denoiser):
    """Any denoiser made a consistency function: ``c_skip x + (1 - c_skip) D(x, sigma)``.

    For students of teachers that predict something else than EDM's F; the identity at
    ``sigma_min``, the denoiser itself at large noise (the first of the two ways of Song et al.
    2023, arXiv:2303.01469, section 3, made smooth).

    Args:
        denoiser: Estimates clean data.
        sigma_data: Standard deviation of the data: where the one passes into the other.
        sigma_min: Noise level of the boundary; None takes the denoiser's smallest.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sigma_data: PositiveFloat = 0.5,
        sigma_min: NonNegativeFloat | None = None,
    ) -> None:
        least = denoiser.sigma_min if sigma_min is None else sigma_min
        super().__init__(least, denoiser.sigma_max)
        self.denoiser = denoiser
        self.sigma_data = sigma_data
        self.boundary = least
        self.provenance = denoiser.provenance

    @property
    def num_classes(self) -> int:
        return self.denoiser.num_classes

    @property
    def network_calls(self) -> int:
        return self.denoiser.network_calls

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        return self.denoiser.prior(noise, sigma)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        above = expand(sigma, x) - self.boundary
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        x0: Tensor = self.denoiser(x, sigma, condition)
        with torch.autocast(x.device.type, enabled=False):
            return c_skip.to(x.dtype) * x + (1 - c_skip).to(x.dtype) * x0


class SwitchedDenoiser(Denoiser):
    """One denoiser up to a noise level, another above it.

    Args:
        below: For levels up to ``threshold``.
        above: For levels above.
        threshold: Noise level in data units.
    """

    def __init__(self, below: Denoiser, above: Denoiser, threshold: float) -> None:
        super().__init__(below.sigma_min, above.sigma_max)
        self.below, self.above, self.threshold = below, above, threshold
        self.boundary = below.boundary

    @property
    def num_classes(self) -> int:
        return self.above.num_classes

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        low = expand(sigma, x) <= self.threshold
        return torch.where(low, self.below(x, sigma, condition), self.above(x, sigma, condition))


class GuidedDenoiser(Denoiser):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598).

    ``D_u + guidance_scale * (D_c - D_u)``: 1 is no guidance. (The paper's ``w`` is
    ``guidance_scale - 1``.) Samples may bring scales of their own, ``condition["guidance"]`` (B,):
    its ODE is then the augmented one of latent consistency models (arXiv:2310.04378, eq. 9), an
    Euler step of which is ``z + (1 + w) psi(c) - w psi(none)``. A network that is told the
    guidance itself is told it, and nothing is extrapolated by it. Guidance of a guided denoiser
    multiplies the scales.

    Args:
        denoiser: A denoiser trained with condition dropout.
        guidance_scale: How far to extrapolate from unconditional to conditional.
    """

    def __init__(self, denoiser: Denoiser, guidance_scale: float = 1.0) -> None:
        super().__init__(denoiser.sigma_min, denoiser.sigma_max)
        self.denoiser = denoiser
        self.guidance_scale = guidance_scale
        self.provenance = denoiser.provenance

    @property
    def num_classes(self) -> int:
        return self.denoiser.num_classes

    @property
    def network_calls(self) -> int:
        guides = self.guidance_scale != 1.0 and any(name in GUIDED for name in self.conditions)
        return (1 + guides) * self.denoiser.network_calls

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        return self.denoiser.prior(noise, sigma)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        told, scales = condition or {}, None
        if "guidance" in told and "guidance" not in self.conditions:
            scales, told = told["guidance"], without(told, "guidance")
        conditional: Tensor = self.denoiser(x, sigma, told)
        plain = self.guidance_scale == 1.0 if scales is None else bool((scales == 1).all())
        if plain or not any(name in told for name in GUIDED):
            return conditional
        unconditional: Tensor = self.denoiser(x, sigma, without(told, *GUIDED))
        scale = self.guidance_scale if scales is None else expand(scales, x).to(x.dtype)
        return self.extrapolated(x, sigma, unconditional.lerp(conditional, scale), conditional)

    def extrapolated(self, x: Tensor, sigma: Tensor, guided: Tensor, conditional: Tensor) -> Tensor:
        """What is made of the extrapolated estimate; here nothing else."""
        return guided
