"""What latent diffusion adds to denoisers and generators: autoencoder, prompts, latent consistency.

Latent diffusion models (Rombach et al. 2022, arXiv:2112.10752) are variance-preserving, and
latent consistency models (Luo et al. 2023, arXiv:2310.04378) are written in their discrete time.
Both are translated here, so that methods see noise levels only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import Algorithm, StepCallback
from kdlight.diffusion.schedules import Schedule, alphas_cumprod_of, sigma_from_alpha_bar
from kdlight.diffusion.sigmas import Grid
from kdlight.errors import InputError


class LatentConsistencyDenoiser(VPDenoiser):
    """A variance-preserving network made a latent consistency function (arXiv:2310.04378, eq. 8).

    ``c_skip z + c_out x0`` with ``c_skip = s^2 / ((k t)^2 + s^2)`` and
    ``c_out = k t / sqrt((k t)^2 + s^2)`` in the timestep ``t``; ``z = x / sqrt(1 + sigma^2)`` is
    what the network sees. At timestep 0 it is ``z`` itself, whatever the network says; already
    at timestep 1 ``c_skip`` is 0.0025 at the default scale. The state at timestep 0 holds a
    little noise, which counts as part of the data: nothing of it is left in :attr:`boundary`.

    Args:
        network: Called as ``network(z, timestep, condition)``.
        schedule: Name of a schedule of 1,000 steps, or alpha_bar of every timestep.
        prediction: What the network predicts.
        sigma_data: The s above.
        timestep_scale: The k above: how fast the identity fades.
        guidance_scale: Guidance of samples that ask for none, for networks that are told it
            (1 is none; the paper's w plus 1).
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule | Sequence[float] = "scaled_linear",
        prediction: str = "epsilon",
        sigma_data: PositiveFloat = 0.5,
        timestep_scale: PositiveFloat = 10.0,
        guidance_scale: float = 8.0,
    ) -> None:
        super().__init__(network, schedule, prediction)
        if not (sigma_data > 0 and timestep_scale > 0):
            raise InputError(
                f"sigma_data: expected sigma_data > 0 and timestep_scale > 0, "
                f"found {sigma_data} and {timestep_scale}."
            )
        self.sigma_data = sigma_data
        self.timestep_scale = timestep_scale
        self.guidance_scale = guidance_scale

    def scalings(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """``c_skip`` and ``c_out`` of timesteps of any shape, float64."""
        scaled = self.timestep_scale * timestep.double()
        square = scaled**2 + self.sigma_data**2
        return self.sigma_data**2 / square, scaled / square.sqrt()

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        told = dict(condition or {})
        if "guidance" not in told:
            # In float64, as a scale is given: its embedding tells 8.3 from the float32 next to it.
            told["guidance"] = torch.full(
                (len(x),), self.guidance_scale, dtype=torch.float64, device=x.device
            )
        x0 = super().forward(x, sigma, told)
        sigma = expand(sigma, x)
        c_skip, c_out = self.scalings(self.timestep(sigma))
        with torch.autocast(x.device.type, enabled=False):
            z = (1 + sigma**2).rsqrt().to(x.dtype) * x
            return c_skip.to(x.dtype) * z + c_out.to(x.dtype) * x0


class SkippingGrid(Grid):
    """Levels of every ``skip``-th timestep: what a latent consistency model is trained on.

    With T timesteps and k skipped the levels are those of timesteps ``k - 1, 2k - 1, ..., T - 1``
    (arXiv:2310.04378, section 4.3). A walk of n steps takes n of them, as evenly spaced as whole
    numbers allow, from the last one on; this is the walk of diffusers' ``LCMScheduler``.

    Args:
        schedule: Name of a schedule of 1,000 steps, or alpha_bar of every timestep.
        skip: Timesteps k between two levels.
    """

    def __init__(self, schedule: Schedule | Sequence[float] = "scaled_linear", skip: int = 20):
        self._table = sigma_from_alpha_bar(alphas_cumprod_of(schedule))
        if not 1 <= skip <= len(self._table) // 2:
            raise InputError(
                f"skip: expected 1 to {len(self._table) // 2}, so that {len(self._table)} "
                f"timesteps give at least 2 levels, found {skip}."
            )
        self.skip = skip

    @property
    def timesteps(self) -> Tensor:
        """The rising timesteps of the levels, (T // k,), int64."""
        return torch.arange(1, len(self._table) // self.skip + 1) * self.skip - 1

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Levels of the solver's steps: where each starts, rising, and where it ends.

        The step from the lowest level ends at timestep 0, where the consistency function is the
        identity.
        """
        below = (self.timesteps - self.skip).clamp(min=0)
        return self._table[self.timesteps], self._table[below]

    def sigmas(self, steps: int) -> Tensor:
        count = len(self.timesteps)
        if not 1 <= steps <= count:
            raise InputError(
                f"steps: expected 1 to {count}, one for each level trained on, found {steps}."
            )
        # numpy, as LCMScheduler, whose rounding decides which level is taken.
        index = np.floor(np.linspace(0, count, num=steps, endpoint=False)).astype(np.int64)
        chosen = self.timesteps.flip(0)[torch.from_numpy(index)]
        return torch.cat([self._table[chosen], self._table.new_zeros(1)])


class Autoencoder(Recorded, nn.Module):
    """Base of what turns pictures into latents and back."""

    shape_of_latent: tuple[int, ...]

    def encode(self, image: Tensor) -> Tensor:
        """Latents (B, *shape_of_latent), of about unit variance, of pictures in [-1, 1]."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures around [-1, 1] of latents."""
        raise NotImplementedError


class PromptTable(Recorded, nn.Module):
    """Base of a list of prompts with what a network is told of them, by number.

    Args:
        table: Conditions of all prompts, such as ``text`` (N, L, D) and ``pooled`` (N, P).
    """

    def __init__(self, table: Condition) -> None:
        super().__init__()
        self.names = tuple(table)
        for name, rows in table.items():
            self.register_buffer(name, rows, persistent=False)

    def __len__(self) -> int:
        return len(self.get_buffer(self.names[0]))

    def condition(self, number: Tensor) -> Condition:
        """What is told of the prompts ``number`` (B,)."""
        return {name: self.get_buffer(name)[number] for name in self.names}


class LatentGenerator(Generator):
    """A generator whose samples are decoded: noise is latent, samples are pictures.

    Prompts are asked for by number, as classes are: ``condition["label"]`` names one of
    ``prompts``; embeddings (``condition["text"]`` and what goes with it) say it directly.

    Args:
        denoiser: Estimates clean latents.
        grid: Lays the noise levels of a walk of n steps.
        shape: Shape of one latent without the batch.
        autoencoder: Decodes.
        prompts: What can be asked for by number; null for a model without text.
        algorithm: Which sampler walks the grid.
        steps: Step counts it is made for, the first is the default.
        any_steps: Whether other step counts make sense too.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        grid: Grid,
        shape: Sequence[PositiveInt],
        autoencoder: Autoencoder,
        prompts: PromptTable | None = None,
        algorithm: Algorithm = "euler",
        steps: Sequence[PositiveInt] = (50,),
        any_steps: bool = True,
    ) -> None:
        super().__init__(denoiser, grid, shape, algorithm, steps, any_steps)
        self.autoencoder = autoencoder
        self.prompts = prompts

    @property
    def num_classes(self) -> int:
        return self.denoiser.num_classes if self.prompts is None else len(self.prompts)

    def surroundings(self) -> dict[str, Any]:
        return {"autoencoder": self.autoencoder, "prompts": self.prompts}

    def forward(
        self,
        noise: Tensor,
        condition: Condition | None = None,
        steps: int | None = None,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """Sample and decode; see :meth:`Generator.forward`. A callback is given latents."""
        asked = dict(condition or {})
        if self.prompts is not None and "label" in asked:
            asked |= self.prompts.condition(asked.pop("label"))
        with torch.no_grad():
            return self.autoencoder.decode(super().forward(noise, asked, steps, callback))
