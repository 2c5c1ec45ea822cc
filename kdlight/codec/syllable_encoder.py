"""An encoder whose frames stay the same inside a syllable, and the syllables it hears."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlight.codec.codebook import kmeans, nearest
from kdlight.codec.frames import frame_mask
from kdlight.codec.syllables import (
    Segments,
    count_nuclei,
    greedy_segments,
    refine_segments,
)
from kdlight.core.ranges import SampleRate
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class Syllables(NamedTuple):
    """What is heard in one recording.

    Attributes:
        times: Start and end of each syllable, seconds, (S, 2) float64.
        units: Number of the nearest unit of each, (S,) int64.
        embeddings: Mean feature of each, (S, D) float32.
    """

    times: Tensor
    units: Tensor
    embeddings: Tensor


class SyllableEncoder(Recorded, nn.Module):
    """Frames of audio, and the pieces in which they hardly change (Sylber, arXiv:2410.07168).

    Args:
        encoder: (B, 1, T) to (B, D, T / hop_length), such as
            :class:`kdlight.codec.frame_rate.MelEncoder`.
        width: D.
        sample_rate: Samples per second.
        hop_length: Samples of a frame.
        silence: Decibels below the loudest frame of a recording at which a frame is quiet.
        pause: Seconds of quiet that are silence; a shorter stretch is the closure of a stop and
            belongs to the speech around it.
        refine: Whether boundaries are moved and merged after the greedy cut.
        units: Kinds of syllables that embeddings are told apart into.

    Attributes:
        centroids: Mean embedding of each unit, (units, D).
        threshold: Cosine with a segment's mean at which a frame belongs to it, (); infinity until
            training has found it.
    """

    threshold: Tensor
    centroids: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        sample_rate: SampleRate = 16000,
        hop_length: int = 320,
        silence: float = 35.0,
        pause: float = 0.15,
        refine: bool = True,
        units: int = 200,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("silence", silence), ("units", units)):
            if not value > 0:
                raise InputError(f"{name}: expected above 0, found {value}.")
        if not pause >= 0:
            raise InputError(f"pause: expected at least 0 s, found {pause}.")
        self.encoder = encoder
        self.width = width
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.silence = silence
        self.pause = pause
        self.refine = refine
        self.register_buffer("centroids", torch.zeros(units, width))
        self.register_buffer("threshold", torch.tensor(torch.inf, dtype=torch.float64))

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def forward(self, audio: Tensor) -> Tensor:
        """Features (B, T / hop_length, D) of audio (B, 1, T), T a multiple of the hop."""
        features: Tensor = self.encoder(audio).transpose(1, 2)
        return features

    @torch.no_grad()
    def speech(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Frames that are neither silence nor padding, (B, T / hop_length) bool.

        Args:
            audio: (B, 1, T), T a multiple of the hop.
            lengths: Samples of each that are no padding, (B,).
        """
        frames = audio.float().view(len(audio), -1, self.hop_length)
        level = 10 * frames.square().mean(dim=2).clamp(min=1e-12).log10()
        loud = level > level.amax(dim=1, keepdim=True) - self.silence
        return _closed(loud, round(self.pause * self.frame_rate)) & frame_mask(
            lengths, self.hop_length, frames.shape[1]
        )

    def whole(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """A recording (1, T) as a batch of one on the grid of frames, and its length (1,)."""
        device = self.threshold.device
        padded = nn.functional.pad(audio, (0, -audio.shape[-1] % self.hop_length))[None]
        return padded.to(device), torch.tensor([audio.shape[-1]], device=device)

    def wanted(self, audio: Tensor, rate: float | None) -> float:
        """How many syllables a recording (1, T) may have.

        Args:
            audio: At :attr:`sample_rate`.
            rate: Syllables a second of speech; None counts peaks of intensity
                (:func:`~kdlight.codec.syllables.count_nuclei`).
        """
        if rate is None:
            return count_nuclei(audio, self.sample_rate)
        return rate * int(self.speech(*self.whole(audio)).sum()) / self.frame_rate

    def cut(self, features: Tensor, speech: Tensor) -> Segments:
        """Segments of one recording's features (F, D), in frames.

        Raises:
            InputError: Training has not found the threshold yet.
        """
        threshold = float(self.threshold)
        if threshold == torch.inf:
            raise InputError("syllables: expected a trained encoder, found one without threshold.")
        segments = greedy_segments(features, speech, threshold)
        return refine_segments(features, segments, threshold) if self.refine else segments

    @torch.no_grad()
    def learn_units(self, embeddings: Tensor, seed: int) -> None:
        """Fit :attr:`centroids` to embeddings (S, D) of many syllables by k-means."""
        generator = torch.Generator().manual_seed(seed)
        found, _ = kmeans(embeddings, len(self.centroids), 20, generator)
        self.centroids.copy_(found)

    @torch.no_grad()
    def syllables(self, audio: Tensor) -> Syllables:
        """The syllables of one recording, (1, T) at :attr:`sample_rate`."""
        padded, length = self.whole(audio)
        features = self(padded)[0]
        segments = self.cut(features, self.speech(padded, length)[0])
        times = torch.tensor(segments, dtype=torch.float64).reshape(-1, 2) / self.frame_rate
        means = [features[start:stop].mean(dim=0) for start, stop in segments]
        embeddings = torch.stack(means) if means else features.new_zeros(0, self.width)
        units = nearest(embeddings.float(), self.centroids)
        times = times.clamp(max=audio.shape[-1] / self.sample_rate)
        return Syllables(times, units.cpu(), embeddings.float().cpu())


def _closed(loud: Tensor, frames: int) -> Tensor:
    """``loud`` (B, F) with quiet stretches of fewer than ``frames`` between loud frames filled."""
    place = torch.arange(loud.shape[1], device=loud.device).expand_as(loud)
    last = torch.where(loud, place, -1).cummax(dim=1).values
    ahead = torch.where(loud, place, loud.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    inside = (last >= 0) & (ahead < loud.shape[1])
    return loud | (inside & (ahead - last - 1 < frames))
