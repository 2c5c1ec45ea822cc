"""The latents of EDM2's models of 512 x 512 images."""

from pathlib import Path

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.teachers.pipelines.autoencoder import ScaledAutoencoder
from kdlight.teachers.pipelines.folder import download, load_model

RAW_MEAN = (5.81, 3.25, 0.12, -2.15)
RAW_STD = (4.17, 4.62, 3.71, 3.28)
"""Of the encoder's latents of ImageNet, by channel (EDM2's release)."""
STD = 0.5
"""Standard deviation that they are brought to."""


class EDM2Autoencoder(ScaledAutoencoder):
    """Stable Diffusion's autoencoder, its latents of mean 0 and standard deviation 0.5.

    Unlike pipelines of diffusers, EDM2 (arXiv:2312.02696) does not multiply by a scaling factor.

    Args:
        path_or_id: Folder or hub id of an ``AutoencoderKL``: ``stabilityai/sd-vae-ft-mse``.
        batch_size: See :class:`~kdlight.teachers.pipelines.autoencoder.ScaledAutoencoder`.

    Raises:
        InputError: There is none, or it has other latents than four channels.
    """

    def __init__(self, path_or_id: str, batch_size: int = 8) -> None:
        root = Path(path_or_id)
        if not root.is_dir():
            root = download(path_or_id, ["config.json", "*.safetensors"])
        config = read_json(root / "config.json")
        kind = config.get("_class_name") if isinstance(config, dict) else None
        if kind != "AutoencoderKL" or config.get("latent_channels") != len(RAW_MEAN):
            raise InputError(
                f"{root / 'config.json'}: expected an AutoencoderKL with latents of 4 channels, "
                f"found {kind}."
            )
        vae = load_model(root, "AutoencoderKL")
        super().__init__(vae, RAW_MEAN, [STD / raw for raw in RAW_STD], batch_size)


def standardized(raw: Tensor) -> Tensor:
    """Latents (..., 4, H, W) of Stable Diffusion's encoder as EDM2's networks see them."""
    mean, scale = (torch.tensor(each).reshape(-1, 1, 1) for each in (RAW_MEAN, RAW_STD))
    return (raw - mean) * (STD / scale)
