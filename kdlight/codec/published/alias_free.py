"""A periodic activation at twice the rate, so that its overtones do not fold back (BigVGAN)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 12


def low_pass() -> Tensor:
    """The filter of BigVGAN (arXiv:2206.04658, section 3.2), (12,): half the band, sums to 1.

    A sinc under a Kaiser window, whose beta follows from the width of the transition (0.6 of the
    band) by Kaiser's formula, as StyleGAN3 (arXiv:2106.12423, appendix C.1) has it.
    """
    attenuation = 2.285 * (TAPS // 2 - 1) * math.pi * 4 * 0.3 + 7.95
    beta = 0.1102 * (attenuation - 8.7)  # where the attenuation is above 50 dB
    time = torch.arange(TAPS) - TAPS / 2 + 0.5
    taps = torch.kaiser_window(TAPS, periodic=False, beta=beta) * torch.sinc(time / 2)
    return taps / taps.sum()


class AliasFreeSnake(nn.Module):
    """``x + sin(a x)^2 / b`` between a filter that doubles the rate and one that halves it.

    Args:
        channels: Each has an ``alpha = log a`` and a ``beta = log b`` of its own, 0 at first.
    """

    filter: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("filter", low_pass()[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, T), same shape."""
        channels = x.shape[1]
        taps = self.filter.expand(channels, -1, -1)
        x = F.pad(x, (TAPS // 2 - 1,) * 2, mode="replicate")
        # Of the doubled rate, what the filter only half covers at either end is cut off.
        cut = TAPS - 2 + (TAPS - 2) // 2
        x = 2 * F.conv_transpose1d(x, taps, stride=2, groups=channels)[..., cut:-cut]
        alpha, beta = self.alpha[:, None].exp(), self.beta[:, None].exp()
        x = x + (alpha * x).sin().square() / (beta + 1e-9)
        x = F.pad(x, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return F.conv1d(x, taps, stride=2, groups=channels)
