"""From frames to one vector of who speaks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation over frames, weighted by attention (arXiv:1803.10963).

    Every channel has weights of its own. The order of frames does not matter.

    Args:
        width: Channels D.
        hidden: Channels of the layer that attends.
    """

    def __init__(self, width: PositiveInt, hidden: PositiveInt = 64) -> None:
        super().__init__()
        # Scores are told apart within a channel: a constant of its own would never be learnt.
        self.attention = nn.Sequential(
            nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width, bias=False)
        )

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(B, 2 D) of frames (B, F, D) and the mask (B, F) of those that count.

        An item without a frame that counts has mean and deviation of nothing: numbers without
        meaning, but finite.
        """
        scores = self.attention(frames).masked_fill(~mask[..., None], -1e4)
        weights = scores.softmax(dim=1) * mask[..., None]
        mean = (weights * frames).sum(dim=1)
        variance = (weights * (frames - mean[:, None]).square()).sum(dim=1)
        # The square root has no gradient at 0, which a single frame would reach.
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)


class SpeakerExtractor(Recorded, nn.Module):
    """Convolutions over frames, attentive statistics, a unit vector.

    Padding does not reach it: frames that do not count are zero before every convolution, as is
    what lies beyond the ends.

    Args:
        width: Channels of the frames.
        embedding: Length of the vector.
        channels: Of the convolutions.
        layers: Number of convolutions.
        kernel_size: Of each, odd.
    """

    def __init__(
        self,
        width: PositiveInt,
        embedding: PositiveInt = 64,
        channels: PositiveInt = 128,
        layers: LayerCount = 2,
        kernel_size: PositiveInt = 5,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size: expected an odd number, found {kernel_size}.")
        self.width = width
        self.embedding = embedding
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width if not place else channels, channels, kernel_size, padding="same")
            for place in range(layers)
        )
        self.pooling = AttentiveStatistics(channels)
        self.end = nn.Linear(2 * channels, embedding)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Vectors (B, embedding) of length 1, of frames (B, F, width) that ``mask`` (B, F) counts.

        What stands in other frames does not matter, a NaN included.
        """
        x = self.norm(torch.where(mask[..., None], frames, 0.0))
        for layer in self.layers:
            x = torch.where(mask[..., None], x, 0.0)
            x = F.gelu(layer(x.transpose(1, 2)).transpose(1, 2))
        vector: Tensor = F.normalize(self.end(self.pooling(x, mask)), dim=-1)
        return vector
