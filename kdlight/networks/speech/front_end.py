"""From phones to frames: the front end of FastSpeech 2 (arXiv:2006.04558), told the voice."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from kdlight.core.ranges import LayerCount, PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError

PITCH_SPREAD = 0.1
"""Unit of the predicted pitch: log f0 around the speaker's mean, about its deviation in speech."""


class Told(NamedTuple):
    """What the front end makes of phones.

    Attributes:
        frames: Content of each frame, (B, width, F), zero on padding.
        log_durations: Predicted ``log(d + 1)`` of each phone, (B, L).
        pitch: Predicted log f0 of each frame, in units of ``PITCH_SPREAD`` around the voice's.
        energy: Predicted mean of the frame's normalised bands, (B, F).
    """

    frames: Tensor
    log_durations: Tensor
    pitch: Tensor
    energy: Tensor


def regulate(states: Tensor, durations: Tensor, frames: int) -> Tensor:
    """Repeat the state of each phone for as many frames as it lasts.

    Args:
        states: (B, L, D).
        durations: Frames of each phone, (B, L) int64; a phone of none leaves none.
        frames: Frames to return.

    Returns:
        (B, frames, D), zero behind the last phone.
    """
    ends = durations.cumsum(dim=1)
    place = torch.arange(frames, device=durations.device).expand(len(durations), -1).contiguous()
    index = torch.searchsorted(ends.contiguous(), place, right=True)
    padded = pad(states, (0, 0, 0, 1))  # what lies behind all phones
    return padded.gather(1, index[..., None].expand(-1, -1, states.shape[2]))


class FrontEnd(Recorded, nn.Module):
    """Phones, a voice, and where they are known durations, pitch and energy, to frames.

    Pitch and energy enter as embeddings of bins, each value as a mixture of the two bins beside
    it: so neighbouring bins learn from one another, which the published hard bins do not.

    Args:
        phones: Number of phones; number 0 of a batch is padding, phone n is number n + 1.
        bands: Bands of the spectrogram; a voice is their mean and the mean of log f0.
        width: Width of the states.
        layers: FFT blocks.
        heads: Of their attention.
        kernel: Taps of the convolution behind it, odd.
        hidden: Width inside it.
        bins: Of pitch and of energy.
        pitch_range: Lowest and highest f0 of the bins, Hz.
        energy_range: The same of energy, in deviations of the bands.
        dropout: Probability, in blocks; in predictors 0.1 as long as this is not 0.
    """

    conditions = ("phones", "durations", "pitch", "energy", "speaker", "mask")

    def __init__(
        self,
        phones: PositiveInt,
        bands: PositiveInt = 80,
        width: PositiveInt = 256,
        layers: LayerCount = 4,
        heads: PositiveInt = 2,
        kernel: PositiveInt = 9,
        hidden: PositiveInt = 1024,
        bins: PositiveInt = 256,
        pitch_range: tuple[float, float] = (50.0, 500.0),
        energy_range: tuple[float, float] = (-3.0, 3.0),
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        if width % heads or width % 2 or kernel % 2 == 0 or bins < 2:
            raise InputError(
                "expected an even width that the heads divide, an odd kernel and two bins or more, "
                f"found width {width}, heads {heads}, kernel {kernel} and {bins} bins."
            )
        self.phones, self.bands, self.width = phones, bands, width
        self.embedding = nn.Embedding(phones + 1, width, padding_idx=0)
        self.blocks = nn.ModuleList(
            FFTBlock(width, heads, kernel, hidden, dropout) for _ in range(layers)
        )
        self.voice = nn.Linear(bands + 1, width)
        inside = min(0.1, dropout)
        self.duration = Predictor(width, inside)
        self.pitch = Predictor(width, inside)
        self.energy = Predictor(width, inside)
        low, high = (math.log(value) for value in pitch_range)
        self.pitch_bins = Bins(bins, low, high, width)
        self.energy_bins = Bins(bins, *energy_range, width)

    def encode(self, phones: Tensor, speaker: Tensor) -> Tensor:
        """States (B, L, width) of phones (B, L) in voices (B, bands + 1)."""
        told = phones > 0
        states = self.embedding(phones) * math.sqrt(self.width) + _places(phones, self.width)
        states = states * told[..., None]
        for block in self.blocks:
            states = block(states, told)
        # Near unit size: log f0 of a voice lies around 5.
        voice = torch.cat([speaker[:, :-1], 3 * (speaker[:, -1:] - 5)], dim=1)
        found: Tensor = (states + self.voice(voice)[:, None]) * told[..., None]
        return found

    def forward(self, condition: Condition) -> Told:
        """Frames whose durations, pitch and energy are known, and what would be predicted.

        Args:
            condition: ``phones`` (B, L) int64, ``durations`` (B, L) int64 frames, ``pitch`` (B, F)
                log Hz, ``energy`` (B, F), ``speaker`` (B, bands + 1), ``mask`` (B, F) bool.
        """
        states = self.encode(condition["phones"], condition["speaker"])
        mask = condition["mask"]
        plain = regulate(states, condition["durations"], mask.shape[1])
        pitched = plain + self.pitch_bins(condition["pitch"])
        frames = (pitched + self.energy_bins(condition["energy"])) * mask[..., None]
        return Told(
            frames.transpose(1, 2),
            self.duration(states, condition["phones"] > 0),
            self.pitch(plain, mask),
            self.energy(pitched, mask),
        )

    @torch.no_grad()
    def predict(self, known: Condition) -> Condition:
        """A full condition of ``phones`` and ``speaker``; what else is known stays as it is."""
        condition = dict(known)
        phones, speaker = condition["phones"], condition["speaker"]
        states = self.encode(phones, speaker)
        if "durations" not in condition:
            lasts = (self.duration(states, phones > 0).exp() - 1).round().long().clamp(1, 100)
            condition["durations"] = lasts * (phones > 0)
        total = condition["durations"].sum(dim=1)
        frames = int(total.max())
        if "mask" not in condition:
            condition["mask"] = torch.arange(frames, device=phones.device) < total[:, None]
        mask = condition["mask"]
        plain = regulate(states, condition["durations"], mask.shape[1])
        if "pitch" not in condition:
            condition["pitch"] = speaker[:, -1:] + PITCH_SPREAD * self.pitch(plain, mask)
        if "energy" not in condition:
            pitched = plain + self.pitch_bins(condition["pitch"])
            condition["energy"] = self.energy(pitched, mask)
        return condition


class FFTBlock(nn.Module):
    """Attention over the phones and a convolution, each with its residual (FastSpeech, 3.1)."""

    def __init__(self, width: int, heads: int, kernel: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.widen = nn.Conv1d(width, hidden, kernel, padding=kernel // 2)
        self.narrow = nn.Conv1d(hidden, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, told: Tensor) -> Tensor:
        heard, _ = self.attention(states, states, states, ~told, need_weights=False)
        states = self.norms[0](states + self.dropout(heard)) * told[..., None]
        mixed = self.narrow(self.widen(states.transpose(1, 2)).relu()).transpose(1, 2)
        found: Tensor = self.norms[1](states + self.dropout(mixed)) * told[..., None]
        return found


class Predictor(nn.Module):
    """One number a phone or frame: two convolutions and a line (FastSpeech 2, 2.3)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.line = nn.Linear(width, 1)

    def forward(self, states: Tensor, told: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            states = layer((states * told[..., None]).transpose(1, 2)).relu().transpose(1, 2)
            states = self.dropout(norm(states))
        found: Tensor = self.line(states)[..., 0] * told
        return found


class Bins(nn.Module):
    """A number as a mixture of the embeddings of the two bins beside it."""

    def __init__(self, count: int, low: float, high: float, width: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.embedding = nn.Embedding(count, width)

    def forward(self, values: Tensor) -> Tensor:
        last = self.embedding.num_embeddings - 1
        place = ((values - self.low) / (self.high - self.low) * last).clamp(0, last)
        below = place.detach().nan_to_num().floor().long().clamp(max=last - 1)
        share = (place - below)[..., None]
        found: Tensor = torch.lerp(self.embedding(below), self.embedding(below + 1), share)
        return found


def _places(phones: Tensor, width: int) -> Tensor:
    """Sines and cosines of the place of each phone, (1, L, width)."""
    place = torch.arange(phones.shape[1], device=phones.device, dtype=torch.float32)[:, None]
    rates = torch.exp(
        -math.log(10000) * torch.arange(0, width, 2, device=phones.device).float() / width
    )
    return torch.cat([(place * rates).sin(), (place * rates).cos()], dim=1)[None]
