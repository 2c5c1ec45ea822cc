"""Spectral distances: zero for identity, closed forms for a change of level, one definition."""

import math

import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

from kdlight.errors import InputError
from kdlight.metrics.speech.spectral import log_mel_l1, mel_distance, stft_distance
from tests.metrics.speech.signals import RATE, noise, voice

DISTANCES = [log_mel_l1, mel_distance, stft_distance]


@pytest.mark.parametrize("distance", DISTANCES)
def test_identity_is_zero_and_distances_are_symmetric(distance) -> None:
    clean, other = voice(), noise(2 * RATE, 0.1)
    assert distance(clean, clean, RATE) == 0.0
    assert distance(clean, other, RATE) == pytest.approx(distance(other, clean, RATE))
    assert distance(torch.zeros(RATE), torch.zeros(RATE), RATE) == 0.0


def test_a_gain_has_a_closed_form() -> None:
    # White noise fills every band well above the clamp, so a gain shifts every logarithm alike.
    loud = noise(2 * RATE)
    soft = 0.5 * loud
    assert log_mel_l1(loud, soft, RATE) == pytest.approx(math.log(2), rel=1e-4)
    assert stft_distance(loud, soft, RATE) == pytest.approx(2 * 2 * math.log10(2), rel=1e-4)


def test_mel_distance_of_a_gain_is_a_step_for_each_scale_with_full_bands() -> None:
    loud = noise(2 * 44_100)
    found = mel_distance(loud, 0.5 * loud, 44_100)
    # Seven scales, but for the narrow bands that hold no bin at all.
    assert 0.85 * 7 * math.log10(2) < found <= 7 * math.log10(2) * (1 + 1e-5)


def test_log_mel_l1_is_the_published_definition() -> None:
    clean, other = voice(), voice(seed=5)
    spectrum = MelSpectrogram(RATE, n_fft=1024, hop_length=256, n_mels=80, power=1)
    first, second = (spectrum(side).clamp(min=1e-5).log() for side in (clean, other))
    expected = (first - second).abs().mean().item()
    assert log_mel_l1(clean, other, RATE) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_mel_distance_is_that_of_librosas_spectra() -> None:
    librosa = pytest.importorskip("librosa")
    clean, other = voice(), voice() + noise(2 * RATE, 0.01)
    expected = 0.0
    for power in range(7):
        window, bands = 32 << power, 5 << power
        first, second = (
            librosa.filters.mel(sr=RATE, n_fft=window, n_mels=bands)
            @ np.abs(librosa.stft(side.numpy(), n_fft=window, pad_mode="reflect"))
            for side in (clean, other)
        )
        logs = np.log10(np.maximum(first, 1e-5)) - np.log10(np.maximum(second, 1e-5))
        expected += np.abs(logs).mean()
    assert mel_distance(clean, other, RATE) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_cannot_be_computed_is_nan(distance) -> None:
    clean = voice(0.5)
    broken = clean.clone()
    broken[7] = math.inf
    assert math.isnan(distance(clean, broken, RATE))
    assert math.isnan(distance(clean[:100], clean[:100], RATE))
    assert math.isfinite(distance(clean, torch.zeros_like(clean), RATE))
    with pytest.raises(InputError, match="one length"):
        distance(clean, clean[1:], RATE)
