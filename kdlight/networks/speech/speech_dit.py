"""A transformer that denoises spectrograms, told content frame by frame and a prompt in context."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.speech.conformer import ConformerBlock
from kdlight.networks.speech.wavenet import timestep_features
from kdlight.networks.text.token_transformer import checked_head_width, rotary_angles


class SpeechDiT(Recorded, nn.Module):
    """Conformer blocks over noisy frames; the voice is heard in the frames of the prompt.

    Takes any length. Padding reaches no frame that counts. The last layer starts at zero.

    Args:
        bands: Bands of the spectrogram.
        content: Width of what it is told of a frame.
        width: Channels, a multiple of ``2 * heads``.
        depth: Number of blocks.
        heads: Attention heads.
        kernel: Taps of the convolutions, odd.
        dropout: Dropout probability.

    Attributes:
        conditions: ``frames`` (B, content, F), ``prompt`` (B, bands, F) clean where ``prompted``
            (B, F), and ``mask`` (B, F) of those that are no padding.
    """

    conditions = ("frames", "prompt", "prompted", "mask")

    def __init__(
        self,
        bands: PositiveInt = 80,
        content: PositiveInt = 80,
        width: PositiveInt = 96,
        depth: LayerCount = 3,
        heads: PositiveInt = 4,
        kernel: PositiveInt = 5,
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        self.bands, self.content, self.width = bands, content, width
        self.head_width = checked_head_width(width, heads)
        self.input = nn.Linear(2 * bands + content + 1, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            ConformerBlock(width, heads, kernel, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, bands)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None) -> Tensor:
        """The network's output (B, bands, F) for noisy x (B, bands, F) at timesteps (B,).

        Raises:
            InputError: It is not told all of :attr:`conditions`.
        """
        told = condition or {}
        if not set(self.conditions) <= told.keys():
            raise InputError(
                f"condition: expected {', '.join(self.conditions)}, found "
                f"{', '.join(told) or 'nothing'}."
            )
        prompted = told["prompted"][:, None].to(x)
        heard = torch.cat([x, told["frames"].to(x), told["prompt"] * prompted, prompted], dim=1)
        mask = told["mask"]
        frames = self.input(torch.where(mask[:, None], heard, 0.0).transpose(1, 2))
        frames = frames + self.time(timestep_features(noise, self.width).to(x))[:, None]
        angles = rotary_angles(x.shape[2], self.head_width).to(x.device)
        for block in self.blocks:
            frames = block(frames, angles, mask)
        output: Tensor = self.output(self.norm(frames)).transpose(1, 2)
        return torch.where(mask[:, None], output, 0.0)
