"""A conformer block (arXiv:2005.08100): attention for what is far, convolution for what is near."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt, Probability
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TransformerBlock


class ConformerBlock(nn.Module):
    """Attention with rotary positions and a perceptron, then a gated depthwise convolution.

    Padding does not reach a frame that counts: no frame attends to it, and it is zero in front of
    the convolution. A norm over a batch or over time, as published conformers have, would let it.

    Args:
        width: Channels of a frame.
        heads: Attention heads.
        kernel: Taps of the convolution, odd.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        width: PositiveInt,
        heads: PositiveInt,
        kernel: PositiveInt = 5,
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise InputError(f"kernel: expected an odd number, found {kernel}.")
        self.attention = TransformerBlock(width, heads, 4.0, dropout, causal=False)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.project = nn.Linear(width, width)

    def forward(self, frames: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        """Frames (B, F, width) mixed with each other, of those that ``mask`` (B, F) counts."""
        frames = self.attention(frames, angles, sees=mask[:, None, None, :])
        gated = nn.functional.glu(self.gate(self.norm(frames)), dim=-1)
        gated = torch.where(mask[..., None], gated, 0.0)
        mixed = nn.functional.silu(self.mix(gated.transpose(1, 2)).transpose(1, 2))
        found: Tensor = frames + self.project(mixed)
        return found
