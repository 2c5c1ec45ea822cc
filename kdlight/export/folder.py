"""What the exports of pixel-space students share: what they refuse, and how a folder is written."""

from pathlib import Path

from diffusers import DiffusionPipeline

from kdlight.diffusion.denoisers import Denoiser
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.networks.images.unet import UNet2D
from kdlight.storage.atomic import atomic_folder

INSTEAD = "export to safetensors instead"


def check_steps(generator: Generator, steps: int) -> None:
    """Refuse a number of steps that a student was not made for.

    Raises:
        InputError: It is one.
    """
    if not generator.accepts(steps):
        known = ", ".join(map(str, sorted(generator.steps)))
        raise InputError(f"steps: this student samples in {known} steps, found {steps}.")


def unet_of(denoiser: Denoiser, noise_scale: float) -> UNet2D:
    """The network of a denoiser, which a pipeline calls with its own noise number.

    Args:
        denoiser: What wraps the network.
        noise_scale: The factor by which the pipeline's noise number exceeds the denoiser's.

    Raises:
        InputError: It is no network that the pipelines of diffusers can call.
    """
    network = denoiser.network
    if not isinstance(network, UNet2D):
        raise InputError(
            f"a {type(network).__name__} cannot become a diffusers pipeline, which needs a "
            f"UNet2D: {INSTEAD}."
        )
    if network.noise_scale != noise_scale:
        raise InputError(
            f"noise_scale: with {type(denoiser).__name__} diffusers gives the network its noise "
            f"number times {noise_scale:g}, expected {noise_scale:g}, "
            f"found {network.noise_scale}: {INSTEAD}."
        )
    if network.model.config.out_channels != network.shape[0]:
        raise InputError(
            f"out_channels: diffusers would be given a learned variance that was not trained: "
            f"{INSTEAD}."
        )
    if network.interval:
        raise InputError(
            f"interval: diffusers does not tell a network how far a jump goes: {INSTEAD}."
        )
    return network


def write_pipeline(pipeline: DiffusionPipeline, path: Path, card: str) -> None:
    """Write a pipeline's folder, whole or not at all.

    Args:
        pipeline: What to write, weights as safetensors.
        path: Folder; an earlier pipeline there is replaced as a whole.
        card: The folder's README.md.

    Raises:
        InputError: Something else lives at ``path``.
    """
    with atomic_folder(path, "model_index.json") as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        (folder / "README.md").write_text(card, encoding="utf-8")
