"""A pipeline's autoencoder, between pictures and latents of unit variance."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.diffusion.latent import Autoencoder
from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.storage.pretrained import one_sentence
from kdlight.teachers.pipelines.folder import load_part, open_pipeline

Numbers = float | Sequence[float]


class ScaledAutoencoder(Autoencoder):
    """Base of autoencoders of diffusers: ``latent = (encoded - shift) * scale``.

    Args:
        vae: The autoencoder.
        shift: A number, or one for each channel.
        scale: A number, or one for each channel.
        batch_size: Pictures at once; an autoencoder needs far more memory than the network beside
            it.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, vae: Any, shift: Numbers, scale: Numbers, batch_size: int = 8) -> None:
        super().__init__()
        self.vae = vae
        self.batch_size = batch_size
        # Autoencoders of videos take a picture as a video of one frame.
        self.frames = "temperal_downsample" in vae.config
        for name, value in (("shift", shift), ("scale", scale)):
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1), persistent=False)

    def encode(self, image: Tensor) -> Tensor:
        """The mean of the posterior, scaled.

        Training of latent models draws from the posterior; that of Stable Diffusion is so narrow
        that the mean stands for it, and gives the same latents every time.
        """
        parts = torch.split(self._framed(image), self.batch_size)
        means = torch.cat([_mean(self.vae.encode(part)) for part in parts])
        means = means.squeeze(2) if self.frames else means
        return ((means - self.shift) * self.scale).to(image.dtype)

    def decode(self, latent: Tensor) -> Tensor:
        scaled = self._framed(latent / self.scale + self.shift)
        parts = torch.split(scaled, self.batch_size)
        pictures = torch.cat([self.vae.decode(part, return_dict=False)[0] for part in parts])
        return (pictures.squeeze(2) if self.frames else pictures).to(latent.dtype)

    def _framed(self, x: Tensor) -> Tensor:
        x = x.to(next(self.vae.parameters()).dtype)
        return x.unsqueeze(2) if self.frames else x


class DiffusersAutoencoder(ScaledAutoencoder):
    """The autoencoder of a pipeline, whose configuration says how latents are scaled.

    Args:
        path_or_id: See :func:`~kdlight.teachers.pipelines.folder.open_pipeline`.
        batch_size: See :class:`ScaledAutoencoder`.
    """

    def __init__(self, path_or_id: str, batch_size: int = 8) -> None:
        folder = open_pipeline(path_or_id)
        vae = load_part(folder, "vae")
        with one_sentence(folder / "vae" / "config.json", "the configuration of an autoencoder"):
            shift: Numbers = vae.config.get("shift_factor") or 0.0
            scale: Numbers | None = vae.config.get("scaling_factor")
            if scale is None:  # Qwen-Image's has both for each channel
                shift = vae.config["latents_mean"]
                scale = [1 / std for std in vae.config["latents_std"]]
            super().__init__(vae, shift, scale, batch_size)
            self._try(downscaling(path_or_id)[0])
        self.path_or_id = path_or_id

    @torch.no_grad()
    def _try(self, channels: int) -> None:
        """Decode and encode a few pixels: some settings fail in use alone."""
        self.encode(self.decode(torch.zeros(1, channels, 2, 2)))


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
        if "z_dim" in config:
            return config["z_dim"], 2 ** len(config["temperal_downsample"])
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
