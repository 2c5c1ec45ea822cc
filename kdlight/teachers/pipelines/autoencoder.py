"""A pipeline's autoencoder, between pictures and latents of unit variance."""

from typing import Any

import torch
from torch import Tensor

from kdlight.diffusion.latent import Autoencoder
from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.teachers.pipelines.folder import load_part, open_pipeline


class DiffusersAutoencoder(Autoencoder):
    """The ``AutoencoderKL`` or ``AutoencoderDC`` of a pipeline.

    ``latent = (encoded - shift_factor) * scaling_factor``, numbers of its configuration.

    Args:
        path_or_id: See :func:`~kdlight.teachers.pipelines.folder.open_pipeline`.
        batch_size: Pictures at once; an autoencoder needs far more memory than the network beside
            it.
    """

    def __init__(self, path_or_id: str, batch_size: int = 8) -> None:
        super().__init__()
        self.path_or_id = path_or_id
        self.batch_size = batch_size
        self.vae = load_part(open_pipeline(path_or_id), "vae")
        self.scale = float(self.vae.config["scaling_factor"])
        self.shift = float(self.vae.config.get("shift_factor") or 0.0)

    def encode(self, image: Tensor) -> Tensor:
        """The mean of the posterior, scaled.

        Training of latent models draws from the posterior; that of Stable Diffusion is so narrow
        that the mean stands for it, and gives the same latents every time.
        """
        parts = torch.split(image.to(next(self.vae.parameters()).dtype), self.batch_size)
        means = torch.cat([_mean(self.vae.encode(part)) for part in parts])
        return ((means - self.shift) * self.scale).to(image.dtype)

    def decode(self, latent: Tensor) -> Tensor:
        scaled = (latent / self.scale + self.shift).to(next(self.vae.parameters()).dtype)
        parts = torch.split(scaled, self.batch_size)
        pictures = [self.vae.decode(part, return_dict=False)[0] for part in parts]
        return torch.cat(pictures).to(latent.dtype)


def _mean(encoded: Any) -> Tensor:
    """Of a posterior its mean; a deterministic autoencoder has none."""
    found: Tensor = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mean
    return found


def downscaling(path_or_id: str) -> tuple[int, int]:
    """Channels of the latents, and pixels on a side for one number of theirs.

    Raises:
        InputError: There is no such pipeline, or its autoencoder is another.
    """
    file = open_pipeline(path_or_id) / "vae" / "config.json"
    config = read_json(file)
    try:
        widths = config.get("encoder_block_out_channels") or config["block_out_channels"]
        return config["latent_channels"], 2 ** (len(widths) - 1)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{file}: not the configuration of an autoencoder.") from None


def latent_shape(path_or_id: str, size: int) -> tuple[int, int, int]:
    """Shape of the latents of square pictures, told by the autoencoder's configuration alone.

    Args:
        path_or_id: See :func:`~kdlight.teachers.pipelines.folder.open_pipeline`.
        size: Side of the pictures, pixels.

    Raises:
        InputError: There is no such pipeline, or its autoencoder takes no such pictures.
    """
    channels, factor = downscaling(path_or_id)
    if size < 1 or size % factor:
        file = open_pipeline(path_or_id) / "vae" / "config.json"
        raise InputError(f"size: expected a multiple of {factor} for {file}, found {size}.")
    return channels, size // factor, size // factor
