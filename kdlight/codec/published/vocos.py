"""WavTokenizer's decoder: one network at the rate of the frames, then an inverse Fourier transform.

Vocos (arXiv:2306.00814): the last layer gives magnitudes and phases, overlapping windows add up to
audio. WavTokenizer (arXiv:2408.16532, section 3.3) puts residual blocks and attention before it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError

GROUPS = 32
EPS = 1e-6
LOUDEST = 100.0
"""The largest magnitude, as Vocos has it."""


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside the identity.

    The original drops a tenth of the values in training; here none are, so that no state of a
    generator has to be kept.

    Args:
        width: Channels, a multiple of 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(GROUPS, width, EPS),
            nn.SiLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width, EPS),
            nn.SiLU(),
            nn.Conv1d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, F)."""
        total: Tensor = x + self.layers(x)
        return total


class AttentionBlock(nn.Module):
    """Attention of one head over all frames, beside the identity.

    Args:
        width: Channels, a multiple of 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, EPS)
        self.query, self.key, self.value, self.output = (
            nn.Conv1d(width, width, 1) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, F)."""
        normed = self.norm(x)
        query, key, value = (
            part(normed).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        total: Tensor = x + self.output(found)
        return total


class ConvNeXtBlock(nn.Module):
    """ConvNeXt (arXiv:2201.03545) along time.

    Args:
        width: Channels.
        hidden: Channels inside.
        scale: What the channels of the block are multiplied by at first.
    """

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, EPS)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, F)."""
        inside = self.norm(self.depthwise(x).transpose(1, 2))
        inside = self.scale * self.narrow(F.gelu(self.widen(inside)))
        total: Tensor = x + inside.transpose(1, 2)
        return total


class VocosDecoder(Recorded, nn.Module):
    """Latents (B, D, F) to audio (B, 1, F * hop_length).

    Args:
        dimension: Channels D of the latents.
        width: Channels of the network, a multiple of 32.
        hidden: Channels inside its ConvNeXt blocks.
        layers: Number of these.
        n_fft: Samples of a window, even and at least the hop.
        hop_length: Samples of a frame, even.

    Attributes:
        hop_length: See above.
        context: None: attention reaches everywhere.

    Raises:
        InputError: A number is not as described.
    """

    context: int | None = None
    window: Tensor

    def __init__(
        self,
        dimension: PositiveInt,
        width: PositiveInt,
        hidden: PositiveInt,
        layers: LayerCount,
        n_fft: PositiveInt,
        hop_length: PositiveInt,
    ) -> None:
        super().__init__()
        if width % GROUPS:
            raise InputError(f"width: expected a multiple of {GROUPS}, found {width}.")
        if n_fft % 2 or n_fft < hop_length or (n_fft - hop_length) % 2:
            raise InputError(
                "n_fft, hop_length: expected even numbers, the first no smaller, found "
                f"{n_fft} and {hop_length}."
            )
        self.n_fft, self.hop_length = n_fft, hop_length
        self.embed = nn.Conv1d(dimension, width, 7, padding=3)
        self.prior = nn.Sequential(
            ResidualBlock(width),
            ResidualBlock(width),
            AttentionBlock(width),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.GroupNorm(GROUPS, width, EPS),
        )
        self.first_norm = nn.LayerNorm(width, EPS)
        self.blocks = nn.Sequential(
            *(ConvNeXtBlock(width, hidden, 1 / layers) for _ in range(layers))
        )
        self.last_norm = nn.LayerNorm(width, EPS)
        self.head = nn.Linear(width, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Audio (B, 1, F * hop_length) of latents (B, D, F)."""
        x = self.prior(self.embed(latents))
        x = self.blocks(self.first_norm(x.transpose(1, 2)).transpose(1, 2))
        x = self.head(self.last_norm(x.transpose(1, 2)))
        # Transforms and their sums are computed in float32 whatever the network runs in.
        log_magnitude, phase = x.transpose(1, 2).float().chunk(2, dim=1)
        magnitude = log_magnitude.exp().clamp(max=LOUDEST)
        return self._inverse(torch.complex(magnitude * phase.cos(), magnitude * phase.sin()))

    def _inverse(self, spectrum: Tensor) -> Tensor:
        """Audio (B, 1, F * hop_length) of spectra (B, n_fft / 2 + 1, F).

        ``torch.istft`` refuses windows that vanish at the ends of the audio, which here are cut
        off: half of what a window is longer than a hop, on either side.
        """
        frames = torch.fft.irfft(spectrum, self.n_fft, dim=1) * self.window[:, None]
        weights = self.window.square()[None, :, None].expand(1, -1, frames.shape[-1])
        audio = self._overlapped(frames) / self._overlapped(weights)
        return audio[:, None]

    def _overlapped(self, frames: Tensor) -> Tensor:
        """Frames (B, n_fft, F) added up at every hop, (B, F * hop_length)."""
        length = (frames.shape[-1] - 1) * self.hop_length + self.n_fft
        added = F.fold(frames, (1, length), (1, self.n_fft), stride=(1, self.hop_length))
        cut = (self.n_fft - self.hop_length) // 2
        return added[:, 0, 0, cut : length - cut]
