"""WaveNet as a denoiser of spectrograms (DiffWave, arXiv:2009.09761; DiffSinger, ProDiff)."""

import math

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError


class WaveNet(Recorded, nn.Module):
    """Residual blocks of gated convolutions over the frames, told the content of each frame.

    Padded frames are zero in front of every convolution, so a spectrogram is the same whatever
    stands behind it in its batch. The last layer starts at zero.

    Args:
        bands: Bands of the spectrogram.
        content: Width of what it is told of a frame.
        width: Channels; 256 in ProDiff.
        blocks: Residual blocks; 20 in ProDiff.
        kernel: Taps of their convolutions, odd.
        cycle: Dilation doubles from block to block and starts again after so many; 1 is none.

    Attributes:
        conditions: ``frames`` (B, content, F), and ``mask`` (B, F) of those that are no padding.
    """

    conditions = ("frames", "mask")

    def __init__(
        self,
        bands: PositiveInt = 80,
        content: PositiveInt = 256,
        width: PositiveInt = 256,
        blocks: LayerCount = 20,
        kernel: PositiveInt = 3,
        cycle: PositiveInt = 1,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise InputError(f"kernel: expected an odd number, found {kernel}.")
        self.bands, self.content, self.width = bands, content, width
        self.input = nn.Conv1d(bands, width, 1)
        self.noise = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        self.blocks = nn.ModuleList(
            GatedBlock(width, content, kernel, 2 ** (index % cycle)) for index in range(blocks)
        )
        self.skip = nn.Conv1d(width, width, 1)
        self.output = nn.Conv1d(width, bands, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None) -> Tensor:
        """The network's output (B, bands, F) for noisy x (B, bands, F) at timesteps (B,).

        Raises:
            InputError: It is not told the frames' content or their mask.
        """
        told = condition or {}
        if not {"frames", "mask"} <= told.keys():
            raise InputError(
                f"condition: expected frames and mask, found {', '.join(told) or 'nothing'}."
            )
        mask = told["mask"][:, None].to(x.dtype)
        step = self.noise(timestep_features(noise, self.width).to(x.dtype))[..., None]
        x = self.input(x).relu() * mask
        skips = torch.zeros_like(x)
        for block in self.blocks:
            x, skip = block(x, step, told["frames"].to(x.dtype), mask)
            skips = skips + skip
        hidden = self.skip(skips / math.sqrt(len(self.blocks))).relu()
        output: Tensor = self.output(hidden) * mask
        return output


class GatedBlock(nn.Module):
    """One residual block: convolution, content, gate, and a part for the sum at the end."""

    def __init__(self, width: int, content: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.step = nn.Linear(width, width)
        self.content = nn.Conv1d(content, 2 * width, 1)
        padding = dilation * (kernel // 2)
        self.mix = nn.Conv1d(width, 2 * width, kernel, padding=padding, dilation=dilation)
        self.output = nn.Conv1d(width, 2 * width, 1)
        nn.init.kaiming_normal_(self.mix.weight)

    def forward(
        self, x: Tensor, step: Tensor, frames: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        hidden = (x + self.step(step[..., 0])[..., None]) * mask
        gate, value = (self.mix(hidden) + self.content(frames)).chunk(2, dim=1)
        residual, skip = self.output(gate.sigmoid() * value.tanh()).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2) * mask, skip


def timestep_features(timestep: Tensor, width: int) -> Tensor:
    """Sines and cosines of timesteps (B,), (B, width), periods from 2 pi to 2 pi 10,000."""
    half = max(1, width // 2)
    rates = torch.exp(
        -math.log(10000) * torch.arange(half, device=timestep.device) / max(1, half - 1)
    )
    angles = timestep.float()[:, None] * rates
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width - 2 * half))
