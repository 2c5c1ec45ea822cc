"""More voices and rooms out of few: recordings played faster or slower, tilted and scaled."""

import math

import torch
from torch import Tensor

from kdlight.core.ranges import NonNegativeFloat
from kdlight.core.spec import Recorded
from kdlight.errors import InputError

FREQUENCIES = torch.tensor([60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7680.0])
"""Where a random response is drawn, Hz; between them it is a line over octaves."""
MOST = 0.5


class SpeechVariation(Recorded):
    """Draws a variation of a recording, for models whose target is the recording itself.

    Playing at another speed moves pitch and formants together, as another vocal tract does. One
    Fourier transform a crop does all of it; the resampling is exact but for the wrap at its ends.

    Args:
        speed: The speed lies between ``1 / (1 + speed)`` and ``1 + speed``, at most 0.5.
        response: Standard deviation of the frequency response at each octave, dB.
        gain: The level moves up or down by at most as much, dB.
    """

    def __init__(
        self,
        speed: NonNegativeFloat = 0.15,
        response: NonNegativeFloat = 3.0,
        gain: NonNegativeFloat = 6.0,
    ) -> None:
        if speed > MOST:
            raise InputError(f"speed: expected at most {MOST}, found {speed}.")
        self.speed, self.response, self.gain = speed, response, gain

    def source_samples(self, samples: int, draw: Tensor) -> int:
        """How many samples of a recording become ``samples``, for a draw () in [0, 1)."""
        speed = math.exp((2 * float(draw) - 1) * math.log1p(self.speed))
        return 16 * max(1, round(samples * speed / 16))  # a length that transforms fast

    def __call__(
        self, audio: Tensor, samples: int, sample_rate: int, generator: torch.Generator
    ) -> Tensor:
        """A variation (1, samples) of audio (1, n), which fills it.

        Args:
            audio: As many samples as :meth:`source_samples` said.
            samples: Of the result.
            sample_rate: Hz.
            generator: Of the response and the gain.
        """
        spectrum = torch.fft.rfft(audio, dim=-1)
        kept = min(spectrum.shape[-1], samples // 2 + 1)
        frequency = torch.arange(kept) * (sample_rate / samples)
        level = self.response * torch.randn(len(FREQUENCIES), generator=generator)
        level += self.gain * (2 * torch.rand((), generator=generator) - 1)
        response = 10 ** (_between(frequency.clamp(min=1.0), level) / 20)
        scaled = spectrum[..., :kept] * response * (samples / audio.shape[-1])
        varied: Tensor = torch.fft.irfft(scaled, samples, dim=-1)
        return varied / varied.abs().max().clamp(min=1.0)


def _between(frequency: Tensor, level: Tensor) -> Tensor:
    """The level at each frequency, lines over octaves, flat outside, the shape of ``frequency``."""
    place = (frequency / FREQUENCIES[0]).log2().clamp(0, len(FREQUENCIES) - 1)
    below = place.long().clamp(max=len(FREQUENCIES) - 2)
    share = place - below
    return torch.lerp(level[below], level[below + 1], share)
