"""An autoencoder of random weights as EDM2's latents are decoded by, small enough for tests."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL


def vae_folder(path: Path) -> str:
    """Write it, of pictures twice as wide as their latents."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
        )
        vae.save_pretrained(path)
    return str(path)
