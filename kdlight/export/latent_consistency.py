"""A latent consistency student as a pipeline, or as adapters, that stock diffusers loads."""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, LatentConsistencyModelPipeline, LCMScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentConsistencyDenoiser, LatentGenerator, SkippingGrid
from kdlight.errors import InputError
from kdlight.export.folder import INSTEAD
from kdlight.export.pipeline import ADAPTERS, betas_of, write_adapters
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.networks.lora import AdaptedNetwork
from kdlight.storage.atomic import atomic_folder
from kdlight.teachers.pipelines.autoencoder import DiffusersAutoencoder
from kdlight.teachers.pipelines.folder import open_pipeline

PIPELINE_CARD = """---
library_name: diffusers
pipeline_tag: text-to-image
---
A latent consistency model distilled with kdlight.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
pipeline("a prompt", num_inference_steps={steps}, guidance_scale={guidance})
```
"""

ADAPTERS_CARD = """---
library_name: diffusers
pipeline_tag: text-to-image
tags: [lora]
---
Adapters distilled with kdlight that make a latent diffusion model a consistency model.

```python
from diffusers import DiffusionPipeline, LCMScheduler

pipeline = DiffusionPipeline.from_pretrained("{source}")
pipeline.scheduler = LCMScheduler.from_pretrained("path/to/this/folder")
pipeline.load_lora_weights("path/to/this/folder")
pipeline("a prompt", num_inference_steps={steps}, guidance_scale=1)
```
"""


def export_latent_consistency(generator: Generator, path: Path, steps: int) -> None:
    """Write a latent consistency student for diffusers.

    One whose network is told the guidance scale becomes a ``LatentConsistencyModelPipeline``
    with its ``LCMScheduler``: the same pictures as ``generator``, given the same noise. One with
    adapters becomes a small folder of the adapters and that scheduler.

    Args:
        generator: A student of :class:`modules.diffusion.latent_consistency.LatentConsistency`.
        path: Folder to write; an earlier export there is replaced as a whole.
        steps: Number of steps that the model card speaks of.

    Raises:
        InputError: diffusers has nothing that would give the same pictures, or something else
            lives at ``path``.
    """
    denoiser, network, source = _check(generator, steps)
    assert isinstance(generator.grid, SkippingGrid)
    scheduler = scheduler_of(denoiser, generator.grid)
    with atomic_folder(path, "model_index.json", ADAPTERS) as folder:
        if isinstance(network, AdaptedNetwork):
            write_adapters(network, scheduler, folder)
            card = ADAPTERS_CARD.format(source=source, steps=steps)
            (folder / "README.md").write_text(card, encoding="utf-8")
        else:
            _write_pipeline(denoiser, network, scheduler, source, folder, steps)


def scheduler_of(denoiser: LatentConsistencyDenoiser, grid: SkippingGrid) -> LCMScheduler:
    """The scheduler that walks as ``grid`` does and reads the network as ``denoiser`` does."""
    alphas_cumprod = denoiser.alphas_cumprod
    return LCMScheduler(
        num_train_timesteps=len(alphas_cumprod),
        trained_betas=betas_of(alphas_cumprod),
        prediction_type=denoiser.prediction,
        original_inference_steps=len(grid.timesteps),
        timestep_scaling=denoiser.timestep_scale,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def _write_pipeline(
    denoiser: LatentConsistencyDenoiser,
    network: UNet2DCondition,
    scheduler: LCMScheduler,
    source: str,
    folder: Path,
    steps: int,
) -> None:
    root = open_pipeline(source)
    kept: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    pipeline = LatentConsistencyModelPipeline(
        vae=AutoencoderKL.from_pretrained(root / "vae", **kept),
        text_encoder=CLIPTextModel.from_pretrained(root / "text_encoder", **kept),
        tokenizer=CLIPTokenizer.from_pretrained(root / "tokenizer"),
        unet=network.model,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    card = PIPELINE_CARD.format(steps=steps, guidance=denoiser.guidance_scale)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _check(
    generator: Generator, steps: int
) -> tuple[LatentConsistencyDenoiser, UNet2DCondition | AdaptedNetwork, str]:
    denoiser, grid = generator.denoiser, generator.grid
    if not isinstance(denoiser, LatentConsistencyDenoiser):
        raise InputError(
            f"a {type(denoiser).__name__} cannot become a latent consistency pipeline, which needs "
            f"a LatentConsistencyDenoiser: {INSTEAD}."
        )
    if not (
        isinstance(generator, LatentGenerator)
        and isinstance(generator.autoencoder, DiffusersAutoencoder)
    ):
        raise InputError(
            f"a student without an autoencoder and a text encoder cannot become a latent "
            f"consistency pipeline: {INSTEAD}."
        )
    if not isinstance(grid, SkippingGrid) or len(denoiser.alphas_cumprod) % grid.skip:
        raise InputError(
            f"skip: LCMScheduler walks a divisor of {len(denoiser.alphas_cumprod)} timesteps, "
            f"found {getattr(grid, 'skip', type(grid).__name__)}: {INSTEAD}."
        )
    if generator.algorithm != "consistency" or denoiser.sigma_data != 0.5:
        raise InputError(
            f"sigma_data: LCMScheduler has 0.5 and the sampler consistency, found "
            f"{denoiser.sigma_data} and {generator.algorithm}: {INSTEAD}."
        )
    grid.sigmas(steps)  # complains about a walk that the grid has not
    network = denoiser.network
    adapted = isinstance(network, AdaptedNetwork) and not network.guidance_dim
    told = isinstance(network, UNet2DCondition) and network.guidance_dim
    if not (adapted or told) or network.num_classes:
        raise InputError(
            f"guidance_dim: diffusers runs a U-Net told the guidance scale, or adapters of one "
            f"that is not told, found a {type(network).__name__} of guidance_dim "
            f"{getattr(network, 'guidance_dim', 0)}: {INSTEAD}."
        )
    assert isinstance(network, UNet2DCondition | AdaptedNetwork)
    return denoiser, network, generator.autoencoder.path_or_id
