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

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("filter", low_pass()[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, T), same shape."""
        taps: Tensor = self.filter  # type: ignore[assignment]
        rows = x.flatten(0, 1)[:, None]
        rows = F.pad(rows, (TAPS // 2 - 1,) * 2, mode="replicate")
        # Of the doubled rate, what the filter only half covers at either end is cut off.
        cut = TAPS - 2 + (TAPS - 2) // 2
        doubled = 2 * F.conv_transpose1d(rows, taps, stride=2)[..., cut:-cut]
        doubled = doubled.view(*x.shape[:2], -1)
        alpha, beta = self.alpha[:, None].exp(), self.beta[:, None].exp()
        doubled = doubled + (alpha * doubled).sin().square() / (beta + 1e-9)
        rows = doubled.flatten(0, 1)[:, None]
        rows = F.pad(rows, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return F.conv1d(rows, taps, stride=2).view(x.shape)
