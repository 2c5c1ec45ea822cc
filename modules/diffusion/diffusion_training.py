"""Training of a diffusion model: where teachers come from."""

import torch
from torch import Tensor

from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.denoisers import Denoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import Algorithm
from kdlight.diffusion.sigmas import Grid, KarrasGrid, LogNormalNoise, NoiseLaw
from kdlight.errors import InputError
from kdlight.losses.denoising import Weighting, weight_of, weighted_squared_error
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.diffusion.base import DiffusionModule


class DiffusionTraining(DiffusionModule):
    """Denoising score matching, for every parameterisation of the field.

    What the network predicts is the denoiser's wrapper; which noise levels it sees and how
    errors count are ``noise_law`` and ``weighting``. The usual recipes:

    ==================  ===================================  ================  ============
    recipe              denoiser                             noise_law         weighting
    ==================  ===================================  ================  ============
    EDM                 EDMDenoiser                          LogNormalNoise    edm
    DDPM (eps)          VPDenoiser, prediction epsilon       TimestepNoise     snr
    v / x0 prediction   VPDenoiser, v_prediction or sample   TimestepNoise     v or constant
    flow matching       FlowDenoiser                         FlowNoise         flow
    ==================  ===================================  ================  ============

    Args:
        denoiser: The model to train.
        shape: Shape of one sample, such as (1, 8, 8).
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        noise_law: Law of the training noise levels.
        weighting: Weight of the x0 error.
        class_dropout: Share of samples trained without their label, for guidance.
        augmentation: Augmentation the network is told of.
        ema_half_life: Half-life of the average, in updates.
        ema_ramp: The half-life is at most this share of the updates so far.
        grid: Noise levels to sample with; default: Karras over the denoiser's range.
        algorithm: Sampler.
        steps: Sampling steps.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        shape: list[int],
        optimizer: Optimization,
        iterations: int = 10_000,
        noise_law: NoiseLaw | None = None,
        weighting: Weighting = "edm",
        class_dropout: float = 0.0,
        augmentation: Augmentation | None = None,
        ema_half_life: float = 1000.0,
        ema_ramp: float = 0.05,
        grid: Grid | None = None,
        algorithm: Algorithm = "heun",
        steps: int = 18,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"denoiser": optimizer}, accumulate, seed, max_non_finite)
        if not 0 <= class_dropout < 1:
            raise InputError(f"class_dropout: expected a number in [0, 1), found {class_dropout}.")
        network = getattr(denoiser, "network", None)
        null_class = denoiser.num_classes > 0 and getattr(network, "null_class", True)
        if class_dropout > 0 and not null_class:
            raise InputError(
                f"class_dropout: expected 0 for a network that has no class to drop, or none to "
                f"put in its place, found {class_dropout}."
            )
        told = getattr(network, "augment_dim", 0)
        if augmentation is not None and told != augmentation.dim:
            raise InputError(
                f"augmentation: expected a network with augment_dim {augmentation.dim}, which is "
                f"told what was done, found {told}: it would draw augmented samples."
            )
        self.denoiser = denoiser
        self.ema = EMA(denoiser, ema_half_life, ema_ramp)
        self.average("denoiser", self.ema)
        self.noise_law = noise_law or LogNormalNoise()
        self.weighting = weighting
        self.class_dropout = class_dropout
        self.augmentation = augmentation
        self.sigma_data = float(getattr(denoiser, "sigma_data", 1.0))
        self._shape = tuple(shape)
        self._sampling = (
            grid or KarrasGrid(max(denoiser.sigma_min, 0.002), denoiser.sigma_max),
            algorithm,
            steps,
        )

    def step(self, batch: Batch) -> None:
        x0, condition = batch["image"], {}
        if self.denoiser.num_classes:
            condition["label"] = self._drop(batch["label"])
        if self.augmentation is not None:
            draws = self.noise.normal(x0.new_empty(len(x0), self.augmentation.draws))
            x0, condition["augment"] = self.augmentation(x0, draws, self.noise.uniform(len(x0)))
        loss = self.loss(x0, condition)
        self.optimize("denoiser", loss)
        self.report({"denoising": loss.detach()})

    def loss(self, x0: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """``E w(sigma) |D(x0 + sigma eps, sigma) - x0|^2`` (EDM, eq. 2), a scalar."""
        sigma = self.noise_law(self.noise.uniform(len(x0)))
        x = x0 + expand(sigma, x0).to(x0.dtype) * self.noise.normal(x0)
        estimate = self.denoiser(x, sigma, condition)
        return weighted_squared_error(
            estimate, x0, weight_of(sigma, self.weighting, self.sigma_data)
        )

    def _drop(self, label: Tensor) -> Tensor:
        if self.class_dropout == 0:
            return label
        dropped = self.noise.uniform(len(label)) < self.class_dropout
        return torch.where(dropped, self.denoiser.num_classes, label)

    def generators(self) -> dict[str, tuple[str, Generator]]:
        grid, algorithm, steps = self._sampling
        generator = Generator(self.ema.module, grid, self._shape, algorithm, (steps,))
        return {"ema.module": ("teacher", generator)}
