"""SEANet: the encoder and decoder of SoundStream, EnCodec, SpeechTokenizer and DM-Codec.

The shape of EnCodec (arXiv:2210.13438, section 3.1): a convolution, for each stride a residual unit
and a strided convolution that doubles the channels, an LSTM, a convolution; the decoder mirrors it.
SpeechTokenizer (arXiv:2308.16692) widens it to 64 filters and 1024 dimensions, pads on both sides
(``causal=False``, ``pad_mode="reflect"``) and has the encoder's LSTM run both ways.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from kdlight.codec.codec import Codec
from kdlight.codec.convolution import (
    PaddedConv1d,
    SkipLSTM,
    Snake,
    Span,
    TrimmedConvTranspose1d,
    fold_weight_norm,
    normed,
)
from kdlight.core.ranges import LayerCountOrZero, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError

ACTIVATIONS = ("elu", "snake")
Units = Callable[[int], list[nn.Module]]
"""Residual units of some channels."""


class ResidualUnit(nn.Module):
    """Two convolutions that narrow and widen, beside a skip connection.

    Args:
        channels: In and out.
        hidden: Channels between.
        kernel_size: Of the first; the second has 1.
        dilation: Of the first.
        style: What all layers of a network share.
        true_skip: Whether the skip is the identity instead of a convolution of kernel 1.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int,
        dilation: int,
        style: "Style",
        true_skip: bool,
    ) -> None:
        super().__init__()
        self.block = nn.Sequential(
            style.activate(channels),
            style.conv(channels, hidden, kernel_size, dilation=dilation),
            style.activate(hidden),
            style.conv(hidden, channels, 1),
        )
        self.shortcut = nn.Identity() if true_skip else style.conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, T), same shape."""
        total: Tensor = self.shortcut(x) + self.block(x)
        return total

    def span(self, outputs: Span) -> Span:
        """Inputs that outputs depend on."""
        return span_of(self.block, outputs)


class Style:
    """What all layers of a network share: padding, normalisation, activation."""

    def __init__(self, causal: bool, pad_mode: str, activation: str, norm: str) -> None:
        if activation not in ACTIVATIONS:
            raise InputError(
                f"activation: expected {' or '.join(ACTIVATIONS)}, found {activation!r}."
            )
        self.causal, self.pad_mode = causal, pad_mode
        self.activation, self.norm = activation, norm

    def activate(self, channels: int) -> nn.Module:
        return Snake(channels) if self.activation == "snake" else nn.ELU()

    def conv(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, dilation: int = 1
    ) -> nn.Module:
        layer = PaddedConv1d(
            inputs, outputs, kernel_size, stride, dilation, self.causal, self.pad_mode
        )
        return normed(layer, self.norm)

    def upsample(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        layer = TrimmedConvTranspose1d(inputs, outputs, 2 * stride, stride, self.causal)
        return normed(layer, self.norm)


class SEANet(Recorded, nn.Module):
    """What encoder and decoder share.

    Args:
        dimension: Channels D of the latents.
        n_filters: Channels at the rate of the audio; every stride doubles them.
        n_residual_layers: Residual units for each stride.
        ratios: Strides in the order of the decoder; the encoder takes them backwards.
        kernel_size: Of the first convolution.
        last_kernel_size: Of the last.
        residual_kernel_size: Of the residual units.
        dilation_base: The dilation of unit j is ``dilation_base ** j``.
        compress: Ratio of the channels of a residual unit to those inside.
        true_skip: Whether residual units add their input itself.
        lstm: LSTM layers; 0 for none.
        bidirectional: Whether the LSTM runs both ways; a decoder is then twice as wide after it.
        causal: Whether nothing depends on later samples.
        pad_mode: ``constant`` or ``reflect``. Streaming starts at once with zeros; reflection
            waits for the samples to reflect, and a first frame that it gives depends on them.
        activation: ``elu`` or ``snake``.
        norm: ``weight_norm``, or ``none`` after :meth:`fold_weight_norm`.

    Attributes:
        hop_length: Samples of a frame.
        causal: See above; False too if the LSTM runs both ways.
        forward_only: Whether no LSTM runs both ways.
        context: Frames on each side that a frame depends on; None with an LSTM.
        layers: What runs, in order.
    """

    layers: nn.Sequential
    context: int | None

    def __init__(
        self,
        dimension: PositiveInt = 128,
        n_filters: PositiveInt = 32,
        n_residual_layers: LayerCountOrZero = 1,
        ratios: Sequence[PositiveInt] = (8, 5, 4, 2),
        kernel_size: PositiveInt = 7,
        last_kernel_size: PositiveInt = 7,
        residual_kernel_size: PositiveInt = 3,
        dilation_base: PositiveInt = 2,
        compress: PositiveInt = 2,
        true_skip: bool = False,
        lstm: LayerCountOrZero = 2,
        bidirectional: bool = False,
        causal: bool = True,
        pad_mode: str = "constant",
        activation: str = "elu",
        norm: str = "weight_norm",
    ) -> None:
        super().__init__()
        if not ratios:
            raise InputError("ratios: expected at least one stride, found none.")
        if n_filters % compress:
            raise InputError(
                f"compress: expected a divisor of n_filters {n_filters}, found {compress}."
            )
        self.dimension, self.n_filters = dimension, n_filters
        self.ratios = tuple(ratios)
        self.hop_length = math.prod(ratios)
        self.forward_only = not (lstm and bidirectional)
        self.causal = causal and self.forward_only
        style = Style(causal, pad_mode, activation, norm)

        def units(channels: int) -> list[nn.Module]:
            return [
                ResidualUnit(
                    channels,
                    channels // compress,
                    residual_kernel_size,
                    dilation_base**index,
                    style,
                    true_skip,
                )
                for index in range(n_residual_layers)
            ]

        widest = n_filters * 2 ** len(ratios)
        memory = [SkipLSTM(widest, lstm, bidirectional)] if lstm else []
        remembered = 2 * widest if lstm and bidirectional else widest
        self.layers = nn.Sequential(
            *self._stack(style, units, memory, remembered, kernel_size, last_kernel_size)
        )
        self.context = None if lstm else self._reach()

    def _stack(
        self,
        style: Style,
        units: Units,
        memory: list[SkipLSTM],
        remembered: int,
        kernel_size: int,
        last_kernel_size: int,
    ) -> list[nn.Module]:
        raise NotImplementedError

    def _reach(self) -> int:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers."""
        output: Tensor = self.layers(x)
        return output

    def fold_weight_norm(self) -> None:
        """Make the normalised weights plain ones, for inference; the outputs stay."""
        fold_weight_norm(self)
        self._init_args = {**self._init_args, "norm": "none"}


class SEANetEncoder(SEANet):
    """Audio (B, 1, T) to latents (B, D, ceil(T / hop_length)); arguments of :class:`SEANet`."""

    def _stack(
        self,
        style: Style,
        units: Units,
        memory: list[SkipLSTM],
        remembered: int,
        kernel_size: int,
        last_kernel_size: int,
    ) -> list[nn.Module]:
        channels = self.n_filters
        stack = [style.conv(1, channels, kernel_size)]
        for ratio in reversed(self.ratios):
            down = style.conv(channels, 2 * channels, 2 * ratio, ratio)
            stack += [*units(channels), style.activate(channels), down]
            channels *= 2
        last = style.conv(remembered, self.dimension, last_kernel_size)
        return [*stack, *memory, style.activate(remembered), last]

    def _reach(self) -> int:
        first, last = span_of(self.layers, (0, 0))
        return max(0, -(first // self.hop_length), last // self.hop_length)


class SEANetDecoder(SEANet):
    """Latents (B, D, F) to audio (B, 1, F * hop_length); arguments of :class:`SEANet`."""

    def _stack(
        self,
        style: Style,
        units: Units,
        memory: list[SkipLSTM],
        remembered: int,
        kernel_size: int,
        last_kernel_size: int,
    ) -> list[nn.Module]:
        channels = self.n_filters * 2 ** len(self.ratios)
        stack: list[nn.Module] = [style.conv(self.dimension, channels, kernel_size), *memory]
        channels = remembered
        for ratio in self.ratios:
            after = channels // 2
            stack += [style.activate(channels), style.upsample(channels, after, ratio)]
            stack += units(after)
            channels = after
        return [*stack, style.activate(channels), style.conv(channels, 1, last_kernel_size)]

    def _reach(self) -> int:
        first, last = span_of(self.layers, (0, self.hop_length - 1))
        return max(0, -first, last)


class LayerPaddedCodec(Codec):
    """A codec that leaves a last frame that is not full to its encoder, as the published ones do.

    :class:`Codec` appends silence to the audio. The encoders of EnCodec and its kin pad every
    layer instead, which gives another last frame (and, with an LSTM that runs both ways, other
    frames before it). Converted codecs are of this class, so that their codes stay what they were.
    """

    def coded_samples(self, samples: int) -> int:
        return samples


def span_of(layers: nn.Sequential, outputs: Span) -> Span:
    """Inputs of a stack of layers that its outputs depend on, an LSTM's memory left out."""
    for layer in reversed(layers):
        if isinstance(layer, (PaddedConv1d, TrimmedConvTranspose1d, ResidualUnit)):
            outputs = layer.span(outputs)
    return outputs
