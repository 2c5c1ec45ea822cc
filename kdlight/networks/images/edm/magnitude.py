"""Layers that preserve the magnitude of activations (Karras et al. 2024, arXiv:2312.02696).

Every weight is brought to unit magnitude where it is used, and every sum, concatenation and
non-linearity is scaled so that unit variance goes in and comes out.
"""

import math

import torch
from torch import Tensor, nn

EPS = 1e-4


def normalized(x: Tensor, dims: list[int]) -> Tensor:
    """``x`` divided by its root mean square over ``dims`` plus 1e-4, in the type of ``x``.

    Args:
        x: Any tensor.
        dims: Over which the mean of squares is taken, in float32.
    """
    rms = x.float().square().mean(dim=dims, keepdim=True).sqrt()
    return x / (EPS + rms).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU over 0.596, its root mean square on unit normal input (eq. 81)."""
    return nn.functional.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """``((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)`` (eq. 88)."""
    return a.lerp(b, t) / math.sqrt((1 - t) ** 2 + t**2)


def mp_cat(a: Tensor, b: Tensor) -> Tensor:
    """Channels of both, each scaled so that both contribute alike (eq. 103, t = 1/2)."""
    left, right = a.shape[1], b.shape[1]
    scale = math.sqrt((left + right) / 2)
    return torch.cat([a * (scale / math.sqrt(left)), b * (scale / math.sqrt(right))], dim=1)


class MPFourier(nn.Module):
    """Random Fourier features of a number, of unit magnitude (eq. 75).

    Args:
        dim: Width.
    """

    freqs: Tensor
    phases: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(dim))
        self.register_buffer("phases", 2 * math.pi * torch.rand(dim))

    def forward(self, number: Tensor) -> Tensor:
        """(B,) to (B, dim), float32."""
        angle = number.float()[:, None] * self.freqs.float() + self.phases.float()
        return math.sqrt(2) * angle.cos()


class MPConv(nn.Module):
    """A linear layer or convolution without bias whose weight has unit magnitude (eq. 47, 66).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Height and width of the kernel, odd; 0 for a linear layer.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        shape = (
            (out_channels, in_channels, kernel, kernel) if kernel else (out_channels, in_channels)
        )
        self.weight = nn.Parameter(torch.randn(shape))
        self.constrain()

    @torch.no_grad()
    def constrain(self) -> None:
        """Forced weight normalisation (section 2.3): the stored weight itself to unit magnitude.

        After every update; otherwise weights grow and their effective learning rate decays.
        """
        self.weight.copy_(normalized(self.weight, list(range(1, self.weight.ndim))))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """Apply the layer; ``gain`` multiplies what it gives."""
        weight = normalized(self.weight.float(), list(range(1, self.weight.ndim)))
        weight = (weight * (gain / math.sqrt(weight[0].numel()))).to(x.dtype)
        if weight.ndim == 2:
            return x @ weight.T
        return nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
