"""A formant synthesiser: glottal pulses and noise through resonators that move (Klatt, 1980).

All contours have one entry every 5 ms. The source is cut into windows of 10 ms that overlap by
half; each is multiplied, in the frequency domain, by the response of the vocal tract at its
centre. So a whole utterance is a handful of batched transforms.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import fold, interpolate, pad

from datamodules.speech.voices.formant_phones import PHONES
from datamodules.speech.voices.formant_score import STEP, Score, Speaker, smooth

HIGHER = (3500.0, 4500.0)
"""Fourth and fifth formant of an average man, Hz; the same for all phones."""
BANDWIDTHS = (70.0, 90.0, 130.0, 200.0, 280.0)
"""Bandwidths of the five formants, Hz."""
NASAL_POLE, NASAL_BANDWIDTH = 800.0, 150.0
"""The nasal tract's resonance, Hz; outside nasals its antiresonance lies there and cancels it."""
BURST, RELEASE = 2, 5
"""Steps of a stop's burst, and of the aspiration behind a voiceless one."""
PEAK, FLOOR = 0.6, 5e-4
"""Largest sample of an utterance, and the standard deviation of the room's noise."""

_STARTS = torch.tensor([phone.formants for phone in PHONES], dtype=torch.float64)
_ENDS = torch.tensor([phone.end or phone.formants for phone in PHONES], dtype=torch.float64)
_LEVELS = torch.tensor([(phone.voicing, phone.aspiration, phone.frication) for phone in PHONES])
_NOISE = torch.tensor([(phone.place, phone.spread) for phone in PHONES], dtype=torch.float64)
_ZEROS = torch.tensor([phone.zero or NASAL_POLE for phone in PHONES], dtype=torch.float64)
_STOPS = torch.tensor([phone.kind == "stop" for phone in PHONES])


class Contours(NamedTuple):
    """What drives the synthesiser, one row a step.

    Attributes:
        formants: (N, 5), Hz.
        zero: Nasal antiresonance (N,), Hz.
        noise: Centre and bandwidth of the frication's resonance, (N, 2), Hz.
        levels: Voicing, aspiration and frication, (N, 3).
    """

    formants: Tensor
    zero: Tensor
    noise: Tensor
    levels: Tensor


def step_samples(sample_rate: int) -> int:
    """Samples of one step."""
    return round(STEP * sample_rate)


def contours(score: Score, speaker: Speaker) -> Contours:
    """The contours of an utterance: targets of its phones, with smooth transitions."""
    place = score.place.double()[:, None]
    ease = place * place * (3 - 2 * place)
    lower = _STARTS[score.phones] + (_ENDS - _STARTS)[score.phones] * ease
    higher = torch.tensor(HIGHER, dtype=torch.float64).expand(len(lower), -1)
    formants = smooth(torch.cat([lower, higher], dim=1).log(), 11).exp() * speaker.scale
    zero = smooth(_ZEROS[score.phones].log()[:, None], 5).exp()[:, 0]

    levels = _LEVELS[score.phones]
    stop = _STOPS[score.phones]
    # A stop is a closure, a burst, and, if it is voiceless, a puff of breath.
    release = torch.where(levels[:, 1] > 0, RELEASE, 0)
    burst = stop & (score.left > release) & (score.left <= release + BURST)
    closed = stop & (score.left > release + BURST)
    voicing = torch.where(stop & ~closed, 0.0, levels[:, 0])
    aspiration = torch.where(stop & (score.left > release), 0.0, levels[:, 1])
    frication = torch.where(stop, 0.0, levels[:, 2])
    levels = smooth(torch.stack([voicing, aspiration, frication], dim=1), 5)
    levels[:, 2] += torch.where(burst, _LEVELS[score.phones, 2], 0.0)
    levels[:, 1] += speaker.breath * levels[:, 0]
    return Contours(formants, zero, _NOISE[score.phones], levels)


def glottal_source(f0: Tensor, open_quotient: float, sample_rate: int) -> Tensor:
    """Derivative of the glottal flow, (T,), its closing steps band-limited.

    The flow of one period is x^2 - x^3 while the glottis is open (x from 0 to 1), zero else (Klatt
    and Klatt, 1990). Its derivative jumps by one where the glottis closes; two samples of a
    polynomial take the worst of the aliases from that jump.

    Args:
        f0: Fundamental frequency of every sample (T,), Hz.
        open_quotient: Part of a period in which the glottis is open.
        sample_rate: Hz.
    """
    advance = f0.double() / sample_rate
    phase = (advance.cumsum(0) - advance).remainder(1.0)
    x = phase / open_quotient
    pulse = torch.where(x < 1, x * (2 - 3 * x), 0.0)
    distance = (phase - open_quotient) / advance  # in samples, from the jump
    before, after = (distance + 1).clamp(0, 1), (1 - distance).clamp(0, 1)
    pulse = torch.where((distance >= -1) & (distance < 0), pulse + before**2 / 2, pulse)
    pulse = torch.where((distance >= 0) & (distance < 1), pulse - after**2 / 2, pulse)
    return pulse.float()


def synthesise(
    score: Score, speaker: Speaker, sample_rate: int, generator: torch.Generator
) -> Tensor:
    """The utterance as (1, T) float32, T = steps * :func:`step_samples`.

    Args:
        score: What is said, and on which pitch.
        speaker: Who says it.
        sample_rate: Hz.
        generator: Of the noise.
    """
    drive = contours(score, speaker)
    step = step_samples(sample_rate)
    samples = len(score.phones) * step
    levels = _to_samples(drive.levels, samples)
    f0 = _to_samples(score.f0[:, None], samples)[0]
    noise = torch.randn(3, samples, generator=generator)
    glottis = levels[0] * glottal_source(f0, speaker.open_quotient, sample_rate)
    sources = torch.stack([glottis + levels[1] * noise[0], levels[2] * noise[1]])

    size = 2 ** math.ceil(math.log2(0.06 * sample_rate))
    left = step // 2
    window = torch.hann_window(2 * step)
    frames = pad(sources, (left, step - left)).unfold(1, 2 * step, step) * window
    spectra = torch.fft.rfft(frames, size)
    spectrum = spectra[0] * _tract(drive, speaker.tilt, sample_rate, size)
    spectrum += spectra[1] * _constriction(drive.noise, sample_rate, size)
    pieces = torch.fft.irfft(spectrum, size)  # (N, size)
    length = (len(pieces) - 1) * step + size
    joined = fold(pieces.t()[None], (1, length), (1, size), stride=(1, step))[0, 0]
    audio = joined[:, left : left + samples]
    return audio * (PEAK / audio.abs().max()) + FLOOR * noise[2]


def _to_samples(tracks: Tensor, samples: int) -> Tensor:
    """Tracks (N, C) at the centres of steps, interpolated to every sample, (C, T)."""
    return interpolate(tracks.t()[None].float(), samples, mode="linear", align_corners=False)[0]


def _section(frequency: Tensor, bandwidth: Tensor, sample_rate: int) -> Tensor:
    """Denominator (N, 3) of a second-order resonator (Klatt, 1980, equation 2)."""
    radius = torch.exp(-math.pi * bandwidth / sample_rate)
    cosine = torch.cos(2 * math.pi * frequency / sample_rate)
    return torch.stack([torch.ones_like(radius), -2 * radius * cosine, radius**2], dim=1)


def _tract(drive: Contours, tilt: float, sample_rate: int, size: int) -> Tensor:
    """Response (N, size / 2 + 1) from the glottis to the lips, one at 0 Hz."""
    one = torch.ones(len(drive.zero), dtype=torch.float64)
    poles = torch.stack([one, -tilt * one], dim=1)
    sections = [_section(NASAL_POLE * one, NASAL_BANDWIDTH * one, sample_rate)]
    for number, bandwidth in enumerate(BANDWIDTHS):
        frequency = drive.formants[:, number]
        section = _section(frequency, bandwidth * one, sample_rate)
        # A resonance above the band leaves it as it is.
        section[frequency > 0.47 * sample_rate] = torch.tensor([1.0, 0, 0], dtype=torch.float64)
        sections.append(section)
    for section in sections:
        poles = _product(poles, section)
    zeros = _section(drive.zero, NASAL_BANDWIDTH * one, sample_rate)
    gain = poles.sum(1) / zeros.sum(1)
    response: Tensor = torch.fft.rfft(zeros * gain[:, None], size) / torch.fft.rfft(poles, size)
    return response.to(torch.complex64)


def _constriction(noise: Tensor, sample_rate: int, size: int) -> Tensor:
    """Response (N, size / 2 + 1) of the cavity in front of a constriction, at most about one."""
    place = noise[:, 0].clamp(max=0.45 * sample_rate)
    poles = _section(place, noise[:, 1], sample_rate)
    gain = (1 - poles[:, 2]) / 2
    zeros = torch.stack([gain, torch.zeros_like(gain), -gain], dim=1)
    response: Tensor = torch.fft.rfft(zeros, size) / torch.fft.rfft(poles, size)
    return response.to(torch.complex64)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Products of polynomials (N, a) and (N, b), (N, a + b - 1)."""
    width = first.shape[1] + second.shape[1] - 1
    return sum(  # type: ignore[return-value]
        pad(first * second[:, shift : shift + 1], (shift, width - first.shape[1] - shift))
        for shift in range(second.shape[1])
    )
