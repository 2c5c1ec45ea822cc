"""Judges of complex spectrograms: whole (EnCodec), and band by band (DAC)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveInt
from kdlight.errors import InputError
from kdlight.networks.speech.judges import ConvStack, Discriminator, Judgement


class _Spectrogram(nn.Module):
    """Complex spectrogram (B, 2, frames, bins) of (B, 1, T), Hann window, hop of a quarter.

    Divided by the window's norm, so that judges of all sizes see numbers of one size.
    """

    window: Tensor

    def __init__(self, n_fft: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        complex_ = torch.stft(
            audio.squeeze(1).float(),
            self.n_fft,
            self.n_fft // 4,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        parts = torch.view_as_real(complex_ / self.window.square().sum().sqrt())
        return parts.permute(0, 3, 2, 1)


class MultiScaleSTFTDiscriminator(Discriminator):
    """MS-STFT discriminator of EnCodec (arXiv:2210.13438, 3.4 and figure 2).

    Computes what the `encodec` package does but for the borders: here the spectrogram covers the
    first and the last samples, which that one hardly sees. The first layer is weight-normalised as
    the others are; there it is not.

    Args:
        n_ffts: Sizes of the spectrograms.
        channels: Of all layers; 32 as published.
        slope: Of the leaky ReLU; 0.2 in the package, 0.3 in EnCodec's training code.
    """

    def __init__(
        self,
        n_ffts: Sequence[PositiveInt] = (2048, 1024, 512, 256, 128),
        channels: PositiveInt = 32,
        slope: NonNegativeFloat = 0.2,
    ) -> None:
        super().__init__()
        self.spectrograms = nn.ModuleList(_Spectrogram(n_fft) for n_fft in n_ffts)
        self.judges = nn.ModuleList(ConvStack(_layers(channels), slope) for _ in n_ffts)

    def forward(self, audio: Tensor) -> list[Judgement]:
        return [
            judge(spectrogram(audio))
            for spectrogram, judge in zip(self.spectrograms, self.judges, strict=True)
        ]


def _layers(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
    layers += [
        nn.Conv2d(channels, channels, (3, 9), (1, 2), (dilation, 4), (dilation, 1))
        for dilation in (1, 2, 4)
    ]
    layers.append(nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)))
    layers.append(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))
    return layers


class MultiBandDiscriminator(Discriminator):
    """Multi-resolution, multi-band discriminator of DAC (arXiv:2306.06546, 3.3).

    Args:
        n_ffts: Sizes of the spectrograms.
        bands: Where each band begins and ends, as shares of the spectrum; every band has layers
            of its own.
        channels: Of all layers; 32 as published.
    """

    def __init__(
        self,
        n_ffts: Sequence[PositiveInt] = (2048, 1024, 512),
        bands: Sequence[tuple[float, float]] = (
            (0.0, 0.1),
            (0.1, 0.25),
            (0.25, 0.5),
            (0.5, 0.75),
            (0.75, 1.0),
        ),
        channels: PositiveInt = 32,
    ) -> None:
        super().__init__()
        bins = min(n_ffts) // 2 + 1
        for start, stop in bands:
            if not 0 <= start < stop <= 1:
                raise InputError(f"bands: expected 0 <= start < stop <= 1, found {start}, {stop}.")
            if int(start * bins) == int(stop * bins):
                raise InputError(
                    f"bands: expected a bin in each of the {bins} of n_fft {min(n_ffts)}, "
                    f"found none in {start} to {stop}."
                )
        self.bands = [(start, stop) for start, stop in bands]
        self.spectrograms = nn.ModuleList(_Spectrogram(n_fft) for n_fft in n_ffts)
        self.judges = nn.ModuleList(_BandJudge(len(self.bands), channels) for _ in n_ffts)

    def forward(self, audio: Tensor) -> list[Judgement]:
        judgements = []
        for spectrogram, judge in zip(self.spectrograms, self.judges, strict=True):
            whole = spectrogram(audio)
            bins = whole.shape[-1]
            parts = [whole[..., int(a * bins) : int(b * bins)] for a, b in self.bands]
            judgements.append(judge(parts))
        return judgements


class _BandJudge(nn.Module):
    """Layers of each band, and one that joins the bands."""

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(
            ConvStack(
                [
                    nn.Conv2d(2, channels, (3, 9), padding=(1, 4)),
                    *(
                        nn.Conv2d(channels, channels, (3, 9), (1, 2), padding=(1, 4))
                        for _ in range(3)
                    ),
                    nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)),
                ]
            )
            for _ in range(bands)
        )
        self.join = ConvStack([nn.Conv2d(channels, 1, (3, 3), padding=(1, 1))])

    def forward(self, parts: list[Tensor]) -> Judgement:
        features: list[Tensor] = []
        ends = []
        for part, stack in zip(parts, self.stacks, strict=True):
            end, inner = stack(part)
            end = nn.functional.leaky_relu(end, 0.1)
            features += [*inner, end]
            ends.append(end)
        logits, _ = self.join(torch.cat(ends, dim=-1))
        return Judgement(logits, tuple(features))
