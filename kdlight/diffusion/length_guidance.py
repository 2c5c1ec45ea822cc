"""Guidance that turns a velocity and keeps its length."""

import torch
from torch import Tensor

from kdlight.diffusion.denoisers import GuidedDenoiser, expand


class LengthGuidedDenoiser(GuidedDenoiser):
    """Guidance of Qwen-Image: every token's velocity is as long as the conditional one.

    ``u = u_g |u_c| / |u_g|``, with ``u_g`` the extrapolated velocity and lengths over the squares
    of 2 x 2 places that its network takes as tokens (``QwenImagePipeline`` of diffusers). A
    velocity is ``(z - D) / t`` with ``z = x / (1 + sigma)``, so that t cancels.
    """

    def extrapolated(self, x: Tensor, sigma: Tensor, guided: Tensor, conditional: Tensor) -> Tensor:
        z = x / (1 + expand(sigma, x)).to(x.dtype)
        wanted, found = _lengths(z - conditional), _lengths(z - guided)
        ratio = (wanted / found.clamp(min=1e-12)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return z - (z - guided) * ratio


def _lengths(velocity: Tensor) -> Tensor:
    """Lengths over squares of 2 x 2 places and all channels, (B, 1, H / 2, W / 2)."""
    count, channels, height, width = velocity.shape
    squares = velocity.reshape(count, channels, height // 2, 2, width // 2, 2)
    lengths: Tensor = torch.linalg.vector_norm(squares, dim=(1, 3, 5))
    return lengths[:, None]
