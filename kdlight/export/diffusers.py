"""A few-step student as a pipeline that stock diffusers loads and runs."""

import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler

from kdlight.diffusion.denoisers import VPDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import TrailingGrid
from kdlight.errors import InputError
from kdlight.networks.unet import UNet2D

_INSTEAD = "export to safetensors instead"

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


def export_diffusers(generator: Generator, path: Path, steps: int) -> None:
    """Write an unconditional U-Net generator as a ``DDIMPipeline`` folder.

    The pipeline draws its noise, walks the trailing timesteps with DDIM (eta 0) and gives the
    images of ``generator(noise, steps=steps)``, mapped to [0, 1] and clamped as diffusers does.

    Args:
        generator: What to export: a :class:`VPDenoiser` that predicts ``sample`` or
            ``v_prediction`` with a :class:`UNet2D`, walking a :class:`TrailingGrid` of its own
            schedule (or the same levels) with Euler.
        path: Folder to write; an earlier pipeline there is replaced as a whole.
        steps: Number of steps the pipeline is for.

    Raises:
        InputError: diffusers has no stock pipeline that would give the same images, or
            something else lives at ``path``.
    """
    denoiser, network = _check(generator, steps)
    if path.exists() and not (path / "model_index.json").is_file():
        raise InputError(f"{path}: expected a new folder or an earlier pipeline.")
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        work = Path(name)
        # Inside, because the temporary folder itself is closed to other users.
        folder = work / "new"
        pipeline = DDIMPipeline(unet=network.model, scheduler=scheduler)
        pipeline.save_pretrained(folder, safe_serialization=True)
        card = CARD.format(steps=steps, plural="" if steps == 1 else "s")
        (folder / "README.md").write_text(card, encoding="utf-8")
        if path.exists():
            path.rename(work / "old")
        folder.rename(path)
        shutil.rmtree(work / "old", ignore_errors=True)


def _check(generator: Generator, steps: int) -> tuple[VPDenoiser, UNet2D]:
    denoiser = generator.denoiser
    if not generator.accepts(steps):
        known = ", ".join(map(str, sorted(generator.steps)))
        raise InputError(f"steps: this student samples in {known} steps, found {steps}.")
    if not isinstance(denoiser, VPDenoiser):
        raise InputError(
            f"a {type(denoiser).__name__} cannot become a diffusers pipeline, which needs a "
            f"VPDenoiser: {_INSTEAD}."
        )
    network = denoiser.network
    if not isinstance(network, UNet2D):
        raise InputError(
            f"a {type(network).__name__} cannot become a diffusers pipeline, which needs a "
            f"UNet2D: {_INSTEAD}."
        )
    if network.num_classes:
        raise InputError(
            f"a class-conditional network cannot become a diffusers pipeline, because "
            f"DDIMPipeline cannot be asked for a class: {_INSTEAD}."
        )
    if denoiser.prediction == "epsilon":
        raise InputError(
            "a network that predicts epsilon is not exported to diffusers: in pure noise epsilon "
            "says nothing of x0, and the division by a vanishing alpha makes noise of its errors; "
            "train with prediction sample or v_prediction."
        )
    if network.noise_scale != 1.0:
        raise InputError(
            f"noise_scale: diffusers gives the network the timestep itself, expected 1, "
            f"found {network.noise_scale}: {_INSTEAD}."
        )
    _check_walk(generator, denoiser, steps)
    return denoiser, network


def _check_walk(generator: Generator, denoiser: VPDenoiser, steps: int) -> None:
    count = len(denoiser.alphas_cumprod)
    # One step to 0 is the same Euler step for every sampler.
    if steps > 1 and generator.algorithm != "euler":
        raise InputError(
            f"algorithm: DDIMPipeline walks with euler, found {generator.algorithm}: {_INSTEAD}."
        )
    # DDIMScheduler steps down by count // steps whatever its timesteps say.
    if steps > count or count % steps:
        raise InputError(
            f"steps: diffusers walks {count} timesteps exactly in a divisor of {count} steps, "
            f"found {steps}: {_INSTEAD}."
        )
    expected = TrailingGrid(denoiser.alphas_cumprod.tolist()).sigmas(steps)
    if not torch.allclose(generator.grid.sigmas(steps), expected, rtol=1e-5, atol=0):
        raise InputError(
            f"grid: DDIMPipeline walks the trailing timesteps of the schedule, and this grid of "
            f"{steps} steps has other levels: {_INSTEAD}."
        )
