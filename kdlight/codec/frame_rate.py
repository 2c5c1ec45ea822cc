"""A codec that works at the frame rate throughout: log-mel in, inverse STFT out.

As the vocoder Vocos (arXiv:2306.00814) has no upsampling, neither encoder nor decoder here ever
computes at more than the rate of the codes; so it trains on a CPU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

from kdlight.core.ranges import LayerCount, PositiveInt, SampleRate
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class ConvNeXtBlock(nn.Module):
    """One-dimensional ConvNeXt block (arXiv:2201.03545), as in Vocos.

    Args:
        width: Channels.
        expansion: Width inside over outside.
        layers: Number of blocks in all, for the start of the scale of the branch.
        kernel_size: Of the depthwise convolution.
    """

    def __init__(self, width: int, expansion: int, layers: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, kernel_size, padding=kernel_size // 2, groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1 / layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, F) to the same."""
        inner = self.norm(self.depthwise(x).transpose(1, 2))
        inner = self.narrow(F.gelu(self.wide(inner))) * self.scale
        added: Tensor = x + inner.transpose(1, 2)
        return added


class Backbone(nn.Module):
    """Convolution, ConvNeXt blocks, linear map: (B, inputs, F) to (B, outputs, F)."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int, expansion: int) -> None:
        super().__init__()
        self.start = nn.Conv1d(inputs, width, 7, padding=3)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(
            *(ConvNeXtBlock(width, expansion, layers) for _ in range(layers))
        )
        self.final_norm = nn.LayerNorm(width)
        self.end = nn.Linear(width, outputs)
        self.context = 3 * (layers + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.start(x).transpose(1, 2)).transpose(1, 2)
        x = self.final_norm(self.blocks(x).transpose(1, 2))
        outputs: Tensor = self.end(x)
        return outputs.transpose(1, 2)


class MelEncoder(Recorded, nn.Module):
    """Log-mel spectrogram, frame k around the middle of hop k, then ConvNeXt blocks.

    Args:
        dim: Channels of the latents.
        sample_rate: Samples per second.
        hop_length: Samples of a frame.
        n_fft: Window of the spectrogram, at least a hop, and even with it.
        n_mels: Bands.
        width: Channels of the blocks.
        layers: Number of blocks.
        expansion: Width inside a block over outside.
    """

    causal = False
    window: Tensor
    bank: Tensor

    def __init__(
        self,
        dim: PositiveInt,
        sample_rate: SampleRate,
        hop_length: PositiveInt = 320,
        n_fft: PositiveInt = 1024,
        n_mels: PositiveInt = 80,
        width: PositiveInt = 192,
        layers: LayerCount = 4,
        expansion: PositiveInt = 3,
    ) -> None:
        super().__init__()
        _check_window(n_fft, hop_length)
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.sample_rate = sample_rate
        bank = melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)
        self.backbone = Backbone(n_mels, dim, width, layers, expansion)
        self.context = self.backbone.context + _reach(n_fft, hop_length)

    def forward(self, audio: Tensor) -> Tensor:
        """Latents (B, dim, T / hop_length) of audio (B, 1, T), T a multiple of the hop."""
        margin = (self.n_fft - self.hop_length) // 2
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.stft(
                F.pad(audio.squeeze(1).float(), (margin, margin)),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=False,
                return_complex=True,
            )
            mel = (self.bank @ spectrum.abs()).clamp(min=1e-5).log()
        # Speech lies about -4 with a spread of 3.
        latents: Tensor = self.backbone((mel + 4) / 3)
        return latents


class SpectrumDecoder(Recorded, nn.Module):
    """ConvNeXt blocks, magnitude and phase of every frame, inverse STFT (Vocos, 2.3).

    Args:
        dim: Channels of the latents.
        hop_length: Samples of a frame.
        n_fft: Window of the inverse STFT, at least two hops, and even with the hop.
        width: Channels of the blocks.
        layers: Number of blocks.
        expansion: Width inside a block over outside.
    """

    causal = False
    window: Tensor

    def __init__(
        self,
        dim: PositiveInt,
        hop_length: PositiveInt = 320,
        n_fft: PositiveInt = 1024,
        width: PositiveInt = 192,
        layers: LayerCount = 6,
        expansion: PositiveInt = 3,
    ) -> None:
        super().__init__()
        _check_window(n_fft, hop_length)
        if n_fft < 2 * hop_length:
            raise InputError(f"n_fft: expected at least two hops, {2 * hop_length}, found {n_fft}.")
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.backbone = Backbone(dim, n_fft + 2, width, layers, expansion)
        self.context = self.backbone.context + _reach(n_fft, hop_length)

    def forward(self, latents: Tensor) -> Tensor:
        """Audio (B, 1, F * hop_length) of latents (B, dim, F)."""
        log_magnitude, phase = self.backbone(latents).float().chunk(2, dim=1)
        # Vocos bounds the magnitude likewise: one frame must not blow up the run.
        spectrum = torch.polar(log_magnitude.clamp(max=4.6).exp(), phase)
        return overlap_add(spectrum, self.window, self.hop_length)


def overlap_add(spectrum: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Inverse STFT whose frame k lies around the middle of hop k.

    Args:
        spectrum: (B, n_fft / 2 + 1, F), complex.
        window: (n_fft,), of analysis and synthesis.
        hop_length: Samples of a frame.

    Returns:
        (B, 1, F * hop_length).
    """
    n_fft, count = len(window), spectrum.shape[-1]
    length = (count - 1) * hop_length + n_fft
    frames = torch.fft.irfft(spectrum, n_fft, dim=1) * window[:, None]
    # Of one envelope for all items, or borders would be divided by the number of items.
    squares = window.square()[None, :, None].expand(1, -1, count)
    fold = {"output_size": (1, length), "kernel_size": (1, n_fft), "stride": (1, hop_length)}
    audio = F.fold(frames, **fold)[:, 0]
    envelope = F.fold(squares, **fold)[:, 0]
    margin = (n_fft - hop_length) // 2
    inside = slice(margin, margin + count * hop_length)
    return audio[..., 0, inside][:, None] / envelope[..., 0, inside][:, None].clamp(min=1e-8)


def _reach(n_fft: int, hop_length: int) -> int:
    """Frames on each side whose hops a window touches."""
    return -(-(n_fft - hop_length) // (2 * hop_length))


def _check_window(n_fft: int, hop_length: int) -> None:
    if n_fft < hop_length or (n_fft - hop_length) % 2 or n_fft % 2:
        raise InputError(
            f"n_fft: expected an even number of at least hop_length {hop_length}, and even with "
            f"it, found {n_fft}."
        )
