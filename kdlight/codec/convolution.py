"""Layers of codecs that keep time: n samples in, n / stride or n * stride out, for any kernel.

Padding is that of EnCodec (arXiv:2210.13438, section 3.1): a convolution pads ``kernel - stride``,
on the left if it is causal, else on both sides, and on the right up to a whole stride; a transposed
one cuts as much off.
"""

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from kdlight.errors import InputError

PAD_MODES = ("constant", "reflect")
NORMS = ("weight_norm", "none")
Module = TypeVar("Module", bound=nn.Module)
Span = tuple[int, int]
"""First and last index, both included; indices may lie outside of the sequence."""


class PaddedConv1d(nn.Conv1d):
    """Convolution of (B, C, T) to (B, C', ceil(T / stride)).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: At least ``stride``.
        stride: Of the output.
        dilation: Of the kernel.
        causal: Whether to pad on the left only.
        pad_mode: ``constant`` (zeros) or ``reflect``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        causal: bool = True,
        pad_mode: str = "constant",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation=dilation)
        if pad_mode not in PAD_MODES:
            raise InputError(f"pad_mode: expected {' or '.join(PAD_MODES)}, found {pad_mode!r}.")
        self.extent = (kernel_size - 1) * dilation + 1
        total = self.extent - stride
        if total < 0:
            raise InputError(f"kernel_size: expected at least the stride {stride}, found less.")
        self.pad_right = 0 if causal else total // 2
        self.pad_left = total - self.pad_right
        self.pad_with = pad_mode

    def forward(self, x: Tensor) -> Tensor:
        """Padded convolution of (B, C, T)."""
        if self.extent == 1:
            return self.convolve(x)
        right = self.pad_right + -x.shape[-1] % self.stride[0]
        return self.convolve(pad(x, self.pad_left, right, self.pad_with))

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution alone."""
        return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation)

    def span(self, outputs: Span) -> Span:
        """Inputs that outputs depend on."""
        first, last = (index * self.stride[0] - self.pad_left for index in outputs)
        return first, last + self.extent - 1


class TrimmedConvTranspose1d(nn.ConvTranspose1d):
    """Transposed convolution of (B, C, T) to (B, C', T * stride).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: At least ``stride``.
        stride: Of the input.
        causal: Whether to cut on the right only.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, causal: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        total = kernel_size - stride
        self.trim_right = total if causal else total // 2
        self.trim_left = total - self.trim_right

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample (B, C, T)."""
        length = x.shape[-1] * self.stride[0]
        return self.convolve(x)[..., self.trim_left : self.trim_left + length]

    def convolve(self, x: Tensor) -> Tensor:
        """The transposed convolution alone: (B, C', (T - 1) * stride + kernel_size)."""
        return F.conv_transpose1d(x, self.weight, self.bias, self.stride)

    def span(self, outputs: Span) -> Span:
        """Inputs that outputs depend on."""
        first, last = (index + self.trim_left for index in outputs)
        return -((self.kernel_size[0] - 1 - first) // self.stride[0]), last // self.stride[0]


class SkipLSTM(nn.Module):
    """LSTM along time with a skip connection: (B, C, T) to (B, C, T), or (B, 2 C, T) both ways.

    Args:
        channels: C.
        layers: Number of layers.
        bidirectional: Whether to run both ways; the skip then adds its input to either.
    """

    def __init__(self, channels: int, layers: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """Run over the whole of (B, C, T)."""
        return self.step(x, None)[0]

    def step(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run on from a state; None is the start."""
        steps = x.permute(2, 0, 1)
        output, state = self.lstm(steps, state)
        skip = torch.cat([steps, steps], dim=-1) if self.lstm.bidirectional else steps
        return (output + skip).permute(1, 2, 0), state


class Snake(nn.Module):
    """Periodic activation ``x + sin(alpha x)^2 / alpha`` (arXiv:2006.08195, equation 3).

    Args:
        channels: Each has an ``alpha`` of its own, 1 at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, T)."""
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9)


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad the end of (B, C, T); an input too short to reflect is made longer by zeros first."""
    if mode == "constant":
        return F.pad(x, (left, right))
    length = x.shape[-1]
    if length <= max(left, right):
        x = F.pad(x, (0, max(left, right) + 1 - length))
    # Several times faster than reflection_pad1d on a CPU.
    last = x.shape[-1] - 1
    mirrored = x[..., 1 : left + 1].flip(-1), x, x[..., last - right : last].flip(-1)
    return torch.cat(mirrored, dim=-1)[..., : left + length + right]


def normed(module: Module, norm: str) -> Module:
    """``module`` with weight normalisation (arXiv:1602.07868), or as it is.

    Raises:
        InputError: ``norm`` is neither.
    """
    if norm not in NORMS:
        raise InputError(f"norm: expected {' or '.join(NORMS)}, found {norm!r}.")
    return weight_norm(module) if norm == "weight_norm" else module


def fold_weight_norm(module: nn.Module) -> None:
    """Turn every normalised weight below ``module`` into a plain one of the same value."""
    for part in list(module.modules()):
        if not parametrize.is_parametrized(part, "weight"):
            continue
        value: Any = part.weight
        weight = nn.Parameter(value.detach().clone())
        # torch's own remove_parametrizations also strips the class, which deep copies share.
        del part.parametrizations
        part.__class__ = type(part).__bases__[0]
        part.register_parameter("weight", weight)
