"""Figures of drawn spectrograms."""

import math

import pytest
import torch

from kdlight.metrics.speech.synthesis import PhoneProbe, SpectrogramScores, patches


def scores(drawn, true, scale=None):
    made = SpectrogramScores(50.0)
    for one, other in zip(drawn, true, strict=True):
        made.update(one, other, scale)
    return {name: float(value) for name, value in made.compute().items()}


def test_equal_ones_have_no_distance():
    true = [torch.randn(80, 60) for _ in range(4)]
    found = scores(true, true, torch.ones(80))
    assert found["mel_patches"] == pytest.approx(0, abs=1e-6)
    assert (found["modulation"], found["mel_l1"]) == (1.0, 0.0)


def test_patches_of_scaled_ones_have_the_closed_form():
    torch.manual_seed(0)
    true = [torch.randn(80, 60) for _ in range(4)]
    found = scores([0.5 * mel + 0.1 for mel in true], true, torch.full((80,), 2.0))
    rows = torch.cat([patches(mel) for mel in true]).double()
    moved = (0.1 - 0.5 * rows.mean(0)).square().sum()
    trace = torch.cov(rows.T, correction=0).trace()
    assert found["mel_patches"] == pytest.approx(float(100 * (moved / trace + 0.25)), rel=1e-3)
    assert found["modulation"] == pytest.approx(0.25, rel=1e-6)
    differences = torch.cat([(0.1 - 0.5 * mel).abs().flatten() for mel in true])
    assert found["mel_l1"] == pytest.approx(2 * float(differences.mean()), rel=1e-5)


def test_smoothing_takes_modulation_away_at_its_rates_alone():
    time = torch.arange(100) / 50
    fast, slow = (torch.sin(2 * math.pi * rate * time).expand(80, -1) for rate in (8.0, 1.0))
    base = torch.randn(80, 100, generator=torch.Generator().manual_seed(0))
    assert scores([base * 0 + fast], [fast])["modulation"] == pytest.approx(1)
    assert scores([0.5 * fast + 9 * slow], [fast])["modulation"] == pytest.approx(0.25, rel=1e-3)


def test_a_spectrogram_that_is_not_finite_spoils_all():
    true = [torch.randn(80, 60) for _ in range(2)]
    found = scores([true[0], true[1] * torch.nan], true)
    assert math.isnan(found["mel_patches"])


def test_the_probe_hears_phones_by_their_spectrum():
    torch.manual_seed(0)
    spectra = torch.randn(5, 20)
    said = [torch.randint(5, (80,)).repeat_interleave(3) for _ in range(3)]
    mels = [spectra[phones].T + 0.3 * torch.randn(20, 240) for phones in said]
    probe = PhoneProbe(5)
    probe.learn(mels[:2], said[:2])
    assert (probe.heard(mels[2]) == said[2]).float().mean() > 0.9
    assert (probe.heard(mels[1][:, torch.randperm(240)]) == said[1]).float().mean() < 0.5
