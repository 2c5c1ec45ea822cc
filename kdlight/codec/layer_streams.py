"""Layers that are fed a sequence in pieces and give, in pieces, what the whole would give.

A convolution keeps its last inputs, a transposed one its last frames, an LSTM its state. A layer
that looks ahead gives later; nothing is ever estimated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlight.codec.convolution import PaddedConv1d, SkipLSTM, TrimmedConvTranspose1d
from kdlight.codec.seanet import ResidualUnit


class LayerStream:
    """A layer that treats every sample by itself; base of those that remember.

    Args:
        layer: What to run.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def push(self, x: Tensor, end: bool) -> Tensor:
        """What can be said now.

        Args:
            x: The next piece (B, C, t), t may be 0.
            end: Whether it is the last one.

        Returns:
            The next outputs (B, C', u), u may be 0.
        """
        output: Tensor = self.layer(x)
        return output

    def needed(self, outputs: int) -> int:
        """Inputs that it takes until the first ``outputs`` outputs have been given."""
        return outputs


class ConvStream(LayerStream):
    """A :class:`PaddedConv1d`. One that reflects first waits for the samples that it reflects."""

    def __init__(self, layer: PaddedConv1d) -> None:
        super().__init__(layer)
        self.conv = layer
        self.stride = layer.stride[0]
        self.reflects = layer.pad_with == "reflect"
        most = layer.pad_right + self.stride - 1
        self.wait = max(layer.pad_left, most) + 1 if self.reflects else 1
        self.started = False
        self.buffer: Tensor | None = None
        # Padding on the right may reflect more than the convolution still holds.
        self.tail: Tensor | None = None
        self.keep = most + 1
        self.length = 0

    def push(self, x: Tensor, end: bool) -> Tensor:
        self.length += x.shape[-1]
        self.buffer = x if self.buffer is None else torch.cat([self.buffer, x], dim=-1)
        self.tail = x if self.tail is None else torch.cat([self.tail, x], dim=-1)
        self.tail = self.tail[..., -self.keep :]
        if not self.started:
            if self.length < self.wait:
                whole = self.buffer
                return self.conv(whole) if end and self.length else self._nothing(whole)
            self.started = True
            self.buffer = F.pad(self.buffer, (self.conv.pad_left, 0), self.conv.pad_with)
        if end:
            self.buffer = torch.cat([self.buffer, self._padding(self.tail)], dim=-1)
        count = (self.buffer.shape[-1] - self.conv.extent) // self.stride + 1
        if count < 1:
            return self._nothing(self.buffer)
        span = (count - 1) * self.stride + self.conv.extent
        output = self.conv.convolve(self.buffer[..., :span])
        self.buffer = self.buffer[..., count * self.stride :]
        return output

    def needed(self, outputs: int) -> int:
        return max(self.wait, self.conv.span((0, outputs - 1))[1] + 1)

    def _padding(self, tail: Tensor) -> Tensor:
        right = self.conv.pad_right + -self.length % self.stride
        if self.reflects:
            return tail[..., tail.shape[-1] - 1 - right : -1].flip(-1)
        return tail.new_zeros(*tail.shape[:-1], right)

    def _nothing(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.conv.out_channels, 0)


class TransposedStream(LayerStream):
    """A :class:`TrimmedConvTranspose1d`: the last inputs run again beside the new ones."""

    def __init__(self, layer: TrimmedConvTranspose1d) -> None:
        super().__init__(layer)
        self.conv = layer
        self.stride = layer.stride[0]
        self.keep = -(-layer.kernel_size[0] // self.stride) - 1
        self.before: Tensor | None = None
        self.to_trim = layer.trim_left

    def push(self, x: Tensor, end: bool) -> Tensor:
        known = 0 if self.before is None else self.before.shape[-1]
        joined = x if self.before is None else torch.cat([self.before, x], dim=-1)
        if not joined.shape[-1]:
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        # Later inputs still add to what lies behind the strides of those known.
        complete = joined.shape[-1] * self.stride + (self.conv.trim_left if end else 0)
        output = self.conv.convolve(joined)[..., known * self.stride : complete]
        self.before = joined[..., max(0, joined.shape[-1] - self.keep) :]
        trimmed = min(self.to_trim, output.shape[-1])
        self.to_trim -= trimmed
        return output[..., trimmed:]

    def needed(self, outputs: int) -> int:
        return -(-(outputs + self.conv.trim_left) // self.stride)


class LSTMStream(LayerStream):
    """A :class:`SkipLSTM` that runs forwards."""

    def __init__(self, layer: SkipLSTM) -> None:
        super().__init__(layer)
        self.memory = layer
        self.state: tuple[Tensor, Tensor] | None = None

    def push(self, x: Tensor, end: bool) -> Tensor:
        if not x.shape[-1]:
            return x
        output, self.state = self.memory.step(x, self.state)
        return output


class ResidualStream(LayerStream):
    """A :class:`ResidualUnit`, whose skip waits for its block."""

    def __init__(self, layer: ResidualUnit) -> None:
        super().__init__(layer)
        self.block = ChainStream(layer.block)
        self.shortcut = stream_of(layer.shortcut)
        self.ahead: Tensor | None = None

    def push(self, x: Tensor, end: bool) -> Tensor:
        skip = self.shortcut.push(x, end)
        output = self.block.push(x, end)
        ahead = skip if self.ahead is None else torch.cat([self.ahead, skip], dim=-1)
        self.ahead = ahead[..., output.shape[-1] :]
        return output + ahead[..., : output.shape[-1]]

    def needed(self, outputs: int) -> int:
        return max(self.shortcut.needed(outputs), self.block.needed(outputs))


class ChainStream(LayerStream):
    """Layers one after the other."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__(layers)
        self.streams = [stream_of(layer) for layer in layers]

    def push(self, x: Tensor, end: bool) -> Tensor:
        for stream in self.streams:
            x = stream.push(x, end)
        return x

    def needed(self, outputs: int) -> int:
        for stream in reversed(self.streams):
            outputs = stream.needed(outputs)
        return outputs


def stream_of(layer: nn.Module) -> LayerStream:
    """The stream of a layer of a SEANet."""
    if isinstance(layer, PaddedConv1d):
        return ConvStream(layer)
    if isinstance(layer, TrimmedConvTranspose1d):
        return TransposedStream(layer)
    if isinstance(layer, SkipLSTM):
        return LSTMStream(layer)
    if isinstance(layer, ResidualUnit):
        return ResidualStream(layer)
    return LayerStream(layer)
