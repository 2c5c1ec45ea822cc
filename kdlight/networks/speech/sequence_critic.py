"""A judge of sequences of frames: convolutions, one verdict a frame."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded


class SequenceCritic(Recorded, nn.Module):
    """Which of two corpora frames are from, told from each frame's surroundings.

    Every convolution is four times as wide as the one before: three see 85 frames. Padding does
    not reach it: frames that do not count are zero before every convolution.

    Args:
        width: Channels of the frames.
        channels: Of the convolutions.
        layers: Number of convolutions.
    """

    def __init__(
        self, width: PositiveInt, channels: PositiveInt = 96, layers: LayerCount = 3
    ) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(
            nn.Conv1d(
                width if not place else channels,
                channels,
                5,
                padding="same",
                dilation=4**place,
            )
            for place in range(layers)
        )
        self.end = nn.Linear(channels, 1)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, F), high for the target corpus, of (B, F, width) and the mask (B, F)."""
        x = frames
        for layer in self.layers:
            x = torch.where(mask[..., None], x, 0.0)
            x = F.leaky_relu(layer(x.transpose(1, 2)).transpose(1, 2), 0.1)
        logits: Tensor = self.end(x)[..., 0]
        return logits
