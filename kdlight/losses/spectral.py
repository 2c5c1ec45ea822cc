"""Distances between mel spectrograms of several resolutions: typed parts of a method."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from kdlight.core.ranges import NonNegativeFloat, PositiveInt, SampleRate
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class MelScale(nn.Module):
    """Mel spectrogram of magnitudes, Hann window, as many frames as hops.

    Args:
        sample_rate: Samples per second.
        n_fft: Size of the window.
        n_mels: Number of bands, HTK scale from 0 Hz to half the sample rate.
        hop_length: A quarter of the window by default.
        normalized: Divide the spectrum by the window's norm.
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self,
        sample_rate: SampleRate,
        n_fft: PositiveInt,
        n_mels: PositiveInt,
        hop_length: PositiveInt | None = None,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = n_fft // 4 if hop_length is None else hop_length
        window = torch.hann_window(n_fft)
        if normalized:
            self.scale = float(window.square().sum().rsqrt())
        else:
            self.scale = 1.0
        bins = n_fft // 2 + 1
        with warnings.catch_warnings():
            # Recipes have more bands than short windows have bins; an empty band adds nothing.
            warnings.filterwarnings("ignore", "At least one mel filterbank")
            bank = melscale_fbanks(bins, 0.0, sample_rate / 2, n_mels, sample_rate)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Magnitudes (B, n_mels, T / hop_length + 1) of (B, 1, T)."""
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.stft(
                audio.squeeze(1).float(),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=True,
                pad_mode="reflect" if audio.shape[-1] > self.n_fft // 2 else "constant",
                return_complex=True,
            )
            # The square root has no gradient at 0, which silence would reach.
            squares = torch.view_as_real(spectrum).square().sum(dim=-1)
            return self.bank @ (squares.clamp(min=1e-14).sqrt() * self.scale)


class SpectralLoss(Recorded, nn.Module):
    """Base: distance of decoded from recorded audio, both (B, 1, T), ().

    Attributes:
        sample_rate: What it hears, in Hz; None if any will do.
    """

    sample_rate: int | None = None

    def forward(self, decoded: Tensor, audio: Tensor) -> Tensor:
        """The distance; ``audio`` is held."""
        raise NotImplementedError


class LogMelLoss(SpectralLoss):
    """L1 distance of log-mel spectrograms, a weighted mean over resolutions.

    HiFi-GAN and Vocos have one resolution; DAC (arXiv:2306.06546, 3.4) seven, with few bands for
    short windows, and the decimal logarithm: its weight of 15 is 15 / ln(10) = 6.5 here, times 7
    for its sum over resolutions.

    Args:
        sample_rate: Samples per second.
        n_ffts: Sizes of the windows; the hop is a quarter.
        n_mels: Bands of each.
        weights: Of each; equal by default. They are scaled to sum to 1.
        floor: Magnitudes below count as this.
    """

    def __init__(
        self,
        sample_rate: SampleRate,
        n_ffts: Sequence[PositiveInt] = (32, 64, 128, 256, 512, 1024, 2048),
        n_mels: Sequence[PositiveInt] = (5, 10, 20, 40, 80, 160, 320),
        weights: Sequence[NonNegativeFloat] | None = None,
        floor: NonNegativeFloat = 1e-5,
    ) -> None:
        super().__init__()
        chosen = [1.0] * len(n_ffts) if weights is None else list(weights)
        if sum(chosen) <= 0:
            raise InputError(f"weights: expected a sum above 0, found {chosen}.")
        if not len(n_ffts) == len(n_mels) == len(chosen):
            raise InputError(
                f"n_ffts, n_mels and weights: expected as many of each, found {len(n_ffts)}, "
                f"{len(n_mels)} and {len(chosen)}."
            )
        self.scales = nn.ModuleList(
            MelScale(sample_rate, n_fft, bands) for n_fft, bands in zip(n_ffts, n_mels, strict=True)
        )
        self.sample_rate = sample_rate
        self.weights = [weight / sum(chosen) for weight in chosen]
        self.floor = floor

    def forward(self, decoded: Tensor, audio: Tensor) -> Tensor:
        terms = []
        for weight, mel in zip(self.weights, self.scales, strict=True):
            target = mel(audio.detach()).clamp(min=self.floor).log()
            found = mel(decoded).clamp(min=self.floor).log()
            terms.append(weight * (found - target).abs().mean())
        return torch.stack(terms).sum()


class MelL1L2Loss(SpectralLoss):
    """L1 of mel magnitudes and mean square of their logarithms, their mean over resolutions.

    EnCodec (arXiv:2210.13438, equation 2), with alpha 1. As in its training code the squared term
    is a mean square and taken of logarithms, the spectrum is divided by the window's norm, and the
    sum by the number of its terms, two a resolution; the paper writes a norm of magnitudes. That
    code takes powers for magnitudes.

    Args:
        sample_rate: Samples per second.
        n_ffts: Sizes of the windows; 2^5 to 2^11 in the paper, 2^6 to 2^10 in its code.
        n_mels: Bands of each.
        floor: Added to magnitudes before the logarithm, to base 10.
    """

    def __init__(
        self,
        sample_rate: SampleRate,
        n_ffts: Sequence[PositiveInt] = (64, 128, 256, 512, 1024),
        n_mels: PositiveInt = 64,
        floor: NonNegativeFloat = 1e-5,
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            MelScale(sample_rate, n_fft, n_mels, normalized=True) for n_fft in n_ffts
        )
        self.sample_rate = sample_rate
        self.floor = floor

    def forward(self, decoded: Tensor, audio: Tensor) -> Tensor:
        terms = []
        for mel in self.scales:
            target, found = mel(audio.detach()), mel(decoded)
            logs = (found + self.floor).log10() - (target + self.floor).log10()
            terms.append((found - target).abs().mean() + logs.square().mean())
        return torch.stack(terms).mean() / 2
