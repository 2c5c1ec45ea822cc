"""Codes of a residual quantiser as one row of tokens, and a masked model of them."""

import torch
from torch import Tensor, nn

from kdlight.discrete.denoiser import MaskedDenoiser


def interleaved(codes: Tensor, codebook_size: int) -> Tensor:
    """Codes (..., n_q, F) frame by frame, the levels of a frame in a row: (..., F * n_q).

    Level q has the tokens ``q * codebook_size`` and on: a token says of which level it is.
    """
    levels = torch.arange(codes.shape[-2], device=codes.device)[:, None]
    return (codes + levels * codebook_size).transpose(-1, -2).flatten(-2)


def separated(tokens: Tensor, levels: int, codebook_size: int) -> Tensor:
    """What :func:`interleaved` was given: codes (..., n_q, F)."""
    codes = tokens.reshape(*tokens.shape[:-1], -1, levels).transpose(-1, -2)
    first: Tensor = torch.arange(levels, device=tokens.device)[:, None] * codebook_size
    return codes - first


class LevelDenoiser(MaskedDenoiser):
    """A masked model of interleaved codes: at each place only its level's tokens are possible.

    Args:
        network: Takes tokens (B, L) with masks, gives logits (B, L, V).
        codebook_size: Codes of a level.
        levels: Levels n_q.
        frames: Frames of a row.
    """

    foreign: Tensor

    def __init__(self, network: nn.Module, codebook_size: int, levels: int, frames: int) -> None:
        super().__init__(network, codebook_size * levels, levels * frames)
        self.codebook_size = codebook_size
        self.levels = levels
        self.frames = frames
        of_token = torch.arange(self.vocabulary) // codebook_size
        of_place = torch.arange(self.length) % levels
        self.register_buffer("foreign", of_token != of_place[:, None], persistent=False)

    def logits(self, tokens: Tensor) -> Tensor:
        """The network's, (B, L, V), of possible tokens."""
        return super().logits(tokens).masked_fill(self.foreign, -torch.inf)

    def at(self, tokens: Tensor, places: Tensor, latent: Tensor | None = None) -> Tensor:
        """As :meth:`logits`, of the tokens at ``places`` (B, L), (N, V)."""
        foreign = self.foreign[places.nonzero()[:, 1]]
        return super().at(tokens, places).masked_fill(foreign, -torch.inf)
