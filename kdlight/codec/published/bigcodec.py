"""BigCodec's encoder and decoder (arXiv:2409.05377, section 2.1): DAC's, with an LSTM.

Activations are those of BigVGAN. One level of factorised codes lies between the two
(:class:`~kdlight.codec.factorized.FactorizedVQ`).
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from kdlight.codec.convolution import SkipLSTM
from kdlight.codec.published.alias_free import AliasFreeSnake
from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class ResidualUnit(nn.Sequential):
    """Two convolutions beside the identity.

    Args:
        channels: In and out.
        dilation: Of the first.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            AliasFreeSnake(channels),
            weight_norm(nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation)),
            AliasFreeSnake(channels),
            weight_norm(nn.Conv1d(channels, channels, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, T)."""
        inside = x
        for layer in self:
            inside = layer(inside)
        return x + inside


def residual_units(channels: int, dilations: Sequence[int]) -> list[ResidualUnit]:
    """One for each dilation."""
    return [ResidualUnit(channels, dilation) for dilation in dilations]


def check_ratios(ratios: Sequence[int]) -> None:
    """Refuse strides that are none.

    Raises:
        InputError: There is none, or one below 1.
    """
    if not ratios or min(ratios) < 1:
        raise InputError(f"ratios: expected strides of at least 1, found {list(ratios)}.")


class BigCodecEncoder(Recorded, nn.Module):
    """Audio (B, 1, F * hop_length) to latents (B, D, F).

    Args:
        dimension: Channels D of the latents.
        width: Channels at the rate of the audio; every stride doubles them.
        ratios: Strides in order.
        dilations: Of the residual units before a stride.
        lstm: LSTM layers.

    Attributes:
        hop_length: Samples of a frame.
        context: None: an LSTM reaches everywhere.
    """

    context: int | None = None

    def __init__(
        self,
        dimension: PositiveInt = 1024,
        width: PositiveInt = 48,
        ratios: Sequence[PositiveInt] = (2, 2, 2, 5, 5),
        dilations: Sequence[PositiveInt] = (1, 3, 9),
        lstm: LayerCount = 2,
    ) -> None:
        super().__init__()
        check_ratios(ratios)
        self.hop_length = math.prod(ratios)
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, width, 7, padding=3))]
        for ratio in ratios:
            padding = -(-ratio // 2)
            down = nn.Conv1d(width, 2 * width, 2 * ratio, ratio, padding)
            units = residual_units(width, dilations)
            layers.append(nn.Sequential(*units, AliasFreeSnake(width), weight_norm(down)))
            width *= 2
        last = weight_norm(nn.Conv1d(width, dimension, 3, padding=1))
        self.layers = nn.Sequential(*layers, SkipLSTM(width, lstm), AliasFreeSnake(width), last)

    def forward(self, audio: Tensor) -> Tensor:
        """Latents (B, D, F) of audio (B, 1, F * hop_length)."""
        latents: Tensor = self.layers(audio)
        return latents


class BigCodecDecoder(Recorded, nn.Module):
    """Latents (B, D, F) to audio (B, 1, F * hop_length).

    Args:
        dimension: Channels D of the latents.
        width: Channels at the rate of the frames; every stride halves them.
        ratios: Strides in order.
        dilations: Of the residual units after a stride.
        lstm: LSTM layers.

    Attributes:
        hop_length: Samples of a frame.
        context: None: an LSTM reaches everywhere.
    """

    context: int | None = None

    def __init__(
        self,
        dimension: PositiveInt = 1024,
        width: PositiveInt = 1536,
        ratios: Sequence[PositiveInt] = (5, 5, 2, 2, 2),
        dilations: Sequence[PositiveInt] = (1, 3, 9),
        lstm: LayerCount = 2,
    ) -> None:
        super().__init__()
        check_ratios(ratios)
        if width % 2 ** len(ratios):
            raise InputError(f"width: expected a multiple of {2 ** len(ratios)}, found {width}.")
        self.hop_length = math.prod(ratios)
        first = weight_norm(nn.Conv1d(dimension, width, 7, padding=3))
        layers: list[nn.Module] = [first, SkipLSTM(width, lstm)]
        for ratio in ratios:
            padding, odd = -(-ratio // 2), ratio % 2
            up = nn.ConvTranspose1d(width, width // 2, 2 * ratio, ratio, padding, odd)
            units = residual_units(width // 2, dilations)
            layers.append(nn.Sequential(AliasFreeSnake(width), weight_norm(up), *units))
            width //= 2
        last = weight_norm(nn.Conv1d(width, 1, 7, padding=3))
        self.layers = nn.Sequential(*layers, AliasFreeSnake(width), last, nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        """Audio (B, 1, F * hop_length) of latents (B, D, F)."""
        audio: Tensor = self.layers(latents)
        return audio
