"""Residual quantisation in a few channels by cosine: the codes of the Descript Audio Codec."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from kdlight.codec.codebook import nearest
from kdlight.codec.quantization import (
    Quantized,
    Quantizer,
    decode_levels,
    encode_residually,
    masked_mean,
)
from kdlight.core.ranges import LayerCount, PositiveInt


class FactorizedCodebook(nn.Module):
    """One level: project to few channels, look up by cosine, project back.

    Improved VQGAN (arXiv:2110.04627, 3.2), as in DAC (arXiv:2306.06546, 3.2): the code is the
    nearest after both sides are scaled to length 1; what is passed on is the code as it is.

    Args:
        dim: Channels of the latents.
        codebook_size: Number of codes.
        codebook_dim: Channels in which codes are looked up.
    """

    def __init__(self, dim: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.project_in = weight_norm(nn.Conv1d(dim, codebook_dim, 1))
        self.project_out = weight_norm(nn.Conv1d(codebook_dim, dim, 1))
        self.codebook = nn.Embedding(codebook_size, codebook_dim)

    def look_up(self, projected: Tensor) -> Tensor:
        """Codes (B, F) of projected latents (B, d, F)."""
        frames = F.normalize(projected.float().transpose(1, 2).flatten(0, 1), dim=1)
        codes = nearest(frames, F.normalize(self.codebook.weight.float(), dim=1))
        return codes.view(len(projected), -1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Code vectors (B, d, F) of codes (B, F)."""
        found: Tensor = self.codebook(codes)
        return found.transpose(1, 2)

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, F) of latents (B, D, F)."""
        return self.look_up(self.project_in(latents))

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D, F) of codes (B, F)."""
        latents: Tensor = self.project_out(self.vectors(codes))
        return latents


class FactorizedVQ(Quantizer):
    """Residual quantisation with factorised, l2-normalised codes that are learned by gradient.

    DAC (arXiv:2306.06546, 3.2). Unlike in :class:`~kdlight.codec.quantization.ResidualVQ` the
    gradient of a level runs through its projections, so the residual keeps it; nothing cancels.

    Args:
        dim: Channels of the latents.
        n_q: Number of levels.
        codebook_size: Codes of a level.
        codebook_dim: Channels in which codes are looked up.
    """

    def __init__(
        self,
        dim: PositiveInt,
        n_q: LayerCount,
        codebook_size: PositiveInt,
        codebook_dim: PositiveInt = 8,
    ) -> None:
        super().__init__(dim, n_q, codebook_size)
        self.layers = nn.ModuleList(
            FactorizedCodebook(dim, codebook_size, codebook_dim) for _ in range(n_q)
        )

    def forward(self, latents: Tensor, n_q: int | Tensor | None = None) -> Quantized:
        count, used = self._used(latents, n_q)
        residual = latents
        total = torch.zeros_like(latents)
        codes, levels, commitments, pulls = [], [], [], []
        layer: Any
        for index, layer in enumerate(self.layers[:count]):
            items = None if used is None else used[index]
            projected = layer.project_in(residual)
            level_codes = layer.look_up(projected)
            found = layer.vectors(level_codes)
            commitments.append(masked_mean((projected - found.detach()).square(), items))
            pulls.append(masked_mean((found - projected.detach()).square(), items))
            level = layer.project_out(projected + (found - projected).detach())
            levels.append(level)
            codes.append(level_codes)
            total = total + (level if items is None else level * items)
            residual = residual - level
        return Quantized(
            total,
            torch.stack(codes, dim=1),
            torch.stack(commitments).mean(),
            tuple(levels),
            torch.stack(pulls).mean(),
        )

    def encode(self, latents: Tensor, n_q: int | None = None) -> Tensor:
        return encode_residually(self.layers[: self._count(n_q)], latents)

    def decode(self, codes: Tensor) -> Tensor:
        return decode_levels(self.layers[: self._count(codes.shape[1])], codes)
