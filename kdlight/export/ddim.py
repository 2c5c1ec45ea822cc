"""A few-step student of a variance-preserving teacher as a ``DDIMPipeline``."""

from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import TrailingGrid
from kdlight.errors import InputError
from kdlight.export.folder import INSTEAD, check_steps, unet_of, write_pipeline
from kdlight.networks.images.unet import UNet2D

CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
---
A generator distilled with kdlight, made to sample in {steps} step{plural}.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
images = pipeline(batch_size=4, num_inference_steps={steps}).images
```
"""


def export_ddim(generator: Generator, denoiser: VPDenoiser, path: Path, steps: int) -> None:
    """Write an unconditional U-Net generator as a ``DDIMPipeline`` folder.

    The pipeline draws its noise, walks the trailing timesteps with DDIM (eta 0) and gives the
    images of ``generator(noise, steps=steps)``, mapped to [0, 1] and clamped as diffusers does.

    Args:
        generator: What to export, walking a :class:`TrailingGrid` of its denoiser's own schedule
            (or the same levels) with Euler.
        denoiser: Its denoiser, which predicts ``sample`` or ``v_prediction`` with a
            :class:`UNet2D`.
        path: Folder to write; an earlier pipeline there is replaced as a whole.
        steps: Number of steps the pipeline is for.

    Raises:
        InputError: ``DDIMPipeline`` would not give the same images, or something else lives at
            ``path``.
    """
    network = _check(generator, denoiser, steps)
    alphas_cumprod = denoiser.alphas_cumprod
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    scheduler = DDIMScheduler(
        num_train_timesteps=len(alphas_cumprod),
        trained_betas=(1 - alphas_cumprod / previous).tolist(),
        prediction_type=denoiser.prediction,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    card = CARD.format(steps=steps, plural="" if steps == 1 else "s")
    write_pipeline(DDIMPipeline(unet=network.model, scheduler=scheduler), path, card)


def _check(generator: Generator, denoiser: VPDenoiser, steps: int) -> UNet2D:
    check_steps(generator, steps)
    network = unet_of(denoiser, noise_scale=1.0)
    if network.num_classes:
        raise InputError(
            f"a class-conditional network cannot become a diffusers pipeline, because "
            f"DDIMPipeline cannot be asked for a class: {INSTEAD}."
        )
    if denoiser.prediction == "epsilon":
        raise InputError(
            "a network that predicts epsilon is not exported to diffusers: in pure noise epsilon "
            "says nothing of x0, and the division by a vanishing alpha makes noise of its errors; "
            "train with prediction sample or v_prediction."
        )
    check_walk(generator, denoiser, steps)
    return network


def check_walk(generator: Generator, denoiser: VPDenoiser, steps: int) -> None:
    """Refuse a walk that ``DDIMScheduler`` does not know.

    Raises:
        InputError: It is one.
    """
    count = len(denoiser.alphas_cumprod)
    # One step to 0 is the same Euler step for every sampler.
    if steps > 1 and generator.algorithm != "euler":
        raise InputError(
            f"algorithm: DDIMPipeline walks with euler, found {generator.algorithm}: {INSTEAD}."
        )
    # DDIMScheduler steps down by count // steps whatever its timesteps say.
    if steps > count or count % steps:
        raise InputError(
            f"steps: diffusers walks {count} timesteps exactly in a divisor of {count} steps, "
            f"found {steps}: {INSTEAD}."
        )
    expected = TrailingGrid(denoiser.alphas_cumprod.tolist()).sigmas(steps)
    if not torch.allclose(generator.grid.sigmas(steps), expected, rtol=1e-5, atol=0):
        raise InputError(
            f"grid: DDIMPipeline walks the trailing timesteps of the schedule, and this grid of "
            f"{steps} steps has other levels: {INSTEAD}."
        )
