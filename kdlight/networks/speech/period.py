"""Judges of audio folded at prime periods (HiFi-GAN)."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.networks.speech.judges import ConvStack, Discriminator, Judgement


class MultiPeriodDiscriminator(Discriminator):
    """MPD of HiFi-GAN (arXiv:2010.05646, 2.3): sees every p-th sample, for each period p.

    Args:
        periods: Prime numbers, so that the judges overlap little.
        channels: Of the first layer; the others have 4, 16, 32 and 32 times as many. 32 as
            published.
    """

    def __init__(
        self, periods: Sequence[PositiveInt] = (2, 3, 5, 7, 11), channels: PositiveInt = 32
    ) -> None:
        super().__init__()
        self.periods = list(periods)
        self.judges = nn.ModuleList(ConvStack(_layers(channels)) for _ in self.periods)

    def forward(self, audio: Tensor) -> list[Judgement]:
        # Folding mirrors up to period - 1 samples, which must be there.
        if audio.shape[-1] < max(self.periods):
            raise InputError(
                f"audio: expected at least {max(self.periods)} samples, the longest period, "
                f"found {audio.shape[-1]}."
            )
        judgements = []
        for period, judge in zip(self.periods, self.judges, strict=True):
            padded = F.pad(audio, (0, -audio.shape[-1] % period), mode="reflect")
            folded = padded.reshape(*padded.shape[:2], -1, period)
            judgements.append(judge(folded))
        return judgements


def _layers(channels: int) -> list[nn.Module]:
    widths = [1, channels, 4 * channels, 16 * channels, 32 * channels]
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, (5, 1), (3, 1), padding=(2, 0))
        for before, after in itertools.pairwise(widths)
    ]
    layers.append(nn.Conv2d(widths[-1], widths[-1], (5, 1), padding=(2, 0)))
    layers.append(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))
    return layers
