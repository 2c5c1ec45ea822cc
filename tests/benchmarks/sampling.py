"""Sampling with kdlight against the loop of diffusers' pipelines, the same network in both."""

from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.samplers import sample_dpmpp_2m, sample_euler
from kdlight.diffusion.sigmas import TrailingGrid
from kdlight.networks.images.unet import UNet2D
from tests.benchmarks.interleave import Pairs, take_turns

BATCH, STEPS = 16, 10
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "linear", "timestep_spacing": "trailing"}


@torch.no_grad()
def pipeline_loop(network: UNet2D, scheduler: Any, noise: Tensor) -> Tensor:
    """What a diffusers pipeline does between the noise and the images."""
    scheduler.set_timesteps(STEPS)
    sample = noise
    for timestep in scheduler.timesteps:
        predicted = network.model(sample, timestep).sample
        sample = scheduler.step(predicted, timestep, sample).prev_sample
    return sample


def sampling(turns: int) -> list[Pairs]:
    """DDIM and DPM-Solver++(2M): as many network calls on either side, and the same images."""
    torch.manual_seed(0)
    network = UNet2D(32, 3, block_out_channels=(32, 64)).eval()
    denoiser = VPDenoiser(network, "linear", "epsilon")
    noise = torch.randn(BATCH, 3, 32, 32)
    ddim = DDIMScheduler(clip_sample=False, **SCHEDULE)
    dpm = DPMSolverMultistepScheduler(final_sigmas_type="zero", **SCHEDULE)
    rows = []
    for name, sampler, scheduler in (
        ("DDIM", sample_euler, ddim),
        ("DPM-Solver++(2M)", sample_dpmpp_2m, dpm),
    ):

        def ours(sampler: Any = sampler) -> Tensor:
            sigmas = TrailingGrid("linear").sigmas(STEPS)
            images: Tensor = sampler(denoiser, denoiser.prior(noise, sigmas[0]), sigmas)
            return images

        def theirs(scheduler: Any = scheduler) -> Tensor:
            return pipeline_loop(network, scheduler, noise)

        # A loop that did other work would be no comparison.
        torch.testing.assert_close(ours(), theirs(), rtol=2e-3, atol=2e-3)
        label = f"{name}, {STEPS} steps, 16 images of 32x32"
        rows.append(take_turns(label, "batch", ours, theirs, turns))
    return rows
