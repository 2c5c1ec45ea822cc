"""Latent consistency distillation: LCM (arXiv:2310.04378) and LCM-LoRA (arXiv:2311.05556)."""

import copy

import torch
from torch import nn

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.curricula import TargetDecay
from kdlight.diffusion.denoisers import Denoiser, GuidedDenoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentConsistencyDenoiser, SkippingGrid
from kdlight.diffusion.students import Adaptable, Adapters, unguided
from kdlight.errors import InputError
from kdlight.losses.consistency import consistency_pair
from kdlight.losses.distances import Distance, SquaredL2
from kdlight.losses.progressive import teacher_walk
from kdlight.networks.checkpointing import checkpoint_activations
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class LatentConsistency(FewStepModule):
    """Consistency distillation of a guided latent model, one long DDIM step at a time.

    The student is told the guidance scale, or learns one scale. Where LCM and LCM-LoRA differ:

    ===============  ===========================  ======================================
    argument         LCM                          LCM-LoRA
    ===============  ===========================  ======================================
    guidance_scale   [3, 15]                      [7.5, 7.5], one fixed scale
    guidance_dim     256                          0: the adapters fit networks not told
    adapters         null: all weights            rank 64
    target_decay     ConstantDecay                null: the student itself
    ===============  ===========================  ======================================

    Args:
        teacher: The model to distil, with variance-preserving timesteps: a latent one
            (:func:`kdlight.teachers.latent.latent_teacher`), or any other, whose latents are its
            pictures.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        skip: Timesteps k that one solver step skips.
        guidance_scale: Smallest and largest guidance scale distilled, drawn uniformly; 1 is none
            (the paper's w plus 1). Both alike is one fixed scale.
        guidance_dim: Width of the embedding of the guidance scale that the student is given if
            its network has none; 0 for none, and the student learns the mean over the scales.
        adapters: Train adapters of these settings and leave the weights as they are; null trains
            the weights.
        distance: Between the two estimates.
        target_decay: Decay of the average the student regresses onto; null for the student.
        sigma_data: See :class:`~kdlight.diffusion.latent.LatentConsistencyDenoiser`.
        timestep_scale: See there.
        sample_guidance: Guidance scale at which the student is sampled; null for the middle of
            ``guidance_scale``.
        steps: Step counts at which the student is measured, the first is its default.
        checkpointing: Recompute activations in the backward pass instead of keeping them.
        ema_half_life: Half-life of the average that samples, in updates.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        iterations: int = 10_000,
        skip: int = 20,
        guidance_scale: list[float] = [3.0, 15.0],  # noqa: B006 - never changed
        guidance_dim: int = 256,
        adapters: Adapters | None = None,
        distance: Distance | None = None,
        target_decay: TargetDecay | None = None,
        sigma_data: float = 0.5,
        timestep_scale: float = 10.0,
        sample_guidance: float | None = None,
        steps: list[int] = [4, 2, 1],  # noqa: B006 - never changed
        checkpointing: bool = False,
        ema_half_life: float = 500.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        if len(guidance_scale) != 2 or not 1 <= guidance_scale[0] <= guidance_scale[1]:
            raise InputError(
                f"guidance_scale: expected the smallest and the largest scale, at least 1, "
                f"found {guidance_scale}."
            )
        low, high = guidance_scale
        source = _source(teacher)
        grid = SkippingGrid(source.alphas_cumprod.tolist(), skip)
        if not steps or min(steps) < 1 or max(steps) > len(grid.timesteps):
            raise InputError(
                f"steps: expected numbers from 1 to {len(grid.timesteps)}, the solver's steps, "
                f"found {steps}."
            )
        student = LatentConsistencyDenoiser(
            _network(source, guidance_dim, adapters),
            source.alphas_cumprod.tolist(),
            source.prediction,
            sigma_data,
            timestep_scale,
            (low + high) / 2 if sample_guidance is None else sample_guidance,
        )
        super().__init__(
            student,
            {"student": optimizer},
            iterations,
            teacher=teacher,
            ema_half_life=ema_half_life,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.add_frozen("augmented", GuidedDenoiser(source))
        self.grid = grid
        self.low, self.high = low, high
        self.distance = distance or SquaredL2()
        self.target_decay = target_decay
        self.target = None if target_decay is None else EMA(student, 0.0, 0.0, evaluation=False)
        if self.target is not None:
            self.average("student", self.target)
        self._steps = tuple(steps)
        if checkpointing:
            checkpoint_activations(self.student)

    def step(self, batch: Batch) -> None:
        # Algorithm 1. One draw more than the plain method: the guidance scale of the walk.
        z0, condition = self.prepare(batch)
        starts, ends = (levels.to(z0.device) for levels in self.grid.pairs())
        index = self.noise.integers(len(z0), len(starts))
        sigma, sigma_below = starts[index], ends[index]
        span = self.high - self.low
        condition["guidance"] = self.low + span * self.noise.uniform(len(z0))
        x = z0 + expand(sigma, z0).to(z0.dtype) * self.noise.normal(z0)
        with torch.no_grad():
            pair = torch.stack([sigma, sigma_below], dim=1)
            x_below = teacher_walk(self._augmented(), x, pair, condition)
        target = self.student if self.target is None else self.target.module
        estimate, target_estimate = consistency_pair(
            self.student, target, x, sigma, x_below, sigma_below, condition
        )
        loss = self.distance(estimate, target_estimate).mean()
        if self.target is not None and self.target_decay is not None:
            self.target.follow(self.target_decay.decay(len(starts)))
        self.optimize("student", loss)
        self.report({"consistency": loss.detach()})

    def _augmented(self) -> Denoiser:
        augmented = self.augmented
        assert isinstance(augmented, Denoiser)
        return augmented

    def generators(self) -> dict[str, tuple[str, Generator]]:
        teacher = self.teacher_generator()
        assert teacher is not None
        sampled = teacher.of(self.ema.module, self.grid, "consistency", self._steps, True)
        return {"ema.module": ("student", sampled)}


def _source(teacher: Generator) -> VPDenoiser:
    """The teacher's denoiser below any guidance."""
    found = unguided(teacher)
    if not isinstance(found, VPDenoiser):
        raise InputError(
            f"teacher: expected a model with variance-preserving timesteps, a VPDenoiser, found a "
            f"{type(found).__name__}."
        )
    return found


def _network(source: VPDenoiser, guidance_dim: int, adapters: Adapters | None) -> nn.Module:
    """The student's network: the teacher's, told the guidance scale or adapted if asked for."""
    network = copy.deepcopy(source.network)
    if guidance_dim and not isinstance(network, UNet2DCondition):
        raise InputError(
            f"guidance_dim: expected 0 for a {type(network).__name__}; only a UNet2DCondition can "
            f"be told the guidance scale."
        )
    if adapters is not None and not isinstance(network, Adaptable):
        raise InputError(
            f"adapters: expected null for a {type(network).__name__}; only a network of diffusers "
            "or EDM can be adapted."
        )
    if guidance_dim and isinstance(network, UNet2DCondition):
        network = network.told_guidance(guidance_dim)
    if adapters is not None and isinstance(network, Adaptable):
        return network.adapted(adapters)
    return network
