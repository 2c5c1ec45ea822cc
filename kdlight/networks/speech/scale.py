"""Judges of audio at falling sample rates (MelGAN, HiFi-GAN)."""

from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.errors import InputError
from kdlight.networks.speech.judges import ConvStack, Discriminator, Judgement


class MultiScaleDiscriminator(Discriminator):
    """MSD of HiFi-GAN (arXiv:2010.05646, 2.3): the audio, and its averages at 1/2 and 1/4 rate.

    HiFi-GAN and SpeechTokenizer's released code normalise the first judge spectrally; here all are
    weight-normalised.

    Args:
        scales: Number of rates.
        channels: Of the first layer, a multiple of 16; 128 as published.
    """

    def __init__(self, scales: LayerCount = 3, channels: PositiveInt = 128) -> None:
        super().__init__()
        if channels < 16 or channels % 16:
            raise InputError(f"channels: expected a multiple of 16, found {channels}.")
        self.judges = nn.ModuleList(ConvStack(_layers(channels)) for _ in range(scales))

    def forward(self, audio: Tensor) -> list[Judgement]:
        judgements = []
        for index, judge in enumerate(self.judges):
            if index:
                audio = F.avg_pool1d(audio, 4, 2, padding=2)
            judgements.append(judge(audio))
        return judgements


def _layers(channels: int) -> list[nn.Module]:
    # Channels, kernel, stride and groups of HiFi-GAN.
    shapes = [
        (1, channels, 15, 1, 1),
        (channels, channels, 41, 2, 4),
        (channels, 2 * channels, 41, 2, 16),
        (2 * channels, 4 * channels, 41, 4, 16),
        (4 * channels, 8 * channels, 41, 4, 16),
        (8 * channels, 8 * channels, 41, 1, 16),
        (8 * channels, 8 * channels, 5, 1, 1),
        (8 * channels, 1, 3, 1, 1),
    ]
    return [
        nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, groups=groups)
        for before, after, kernel, stride, groups in shapes
    ]
