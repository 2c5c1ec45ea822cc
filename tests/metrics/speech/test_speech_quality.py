"""PESQ, STOI, ViSQOL, SI-SDR, DNSMOS, speakers and pitch: as their packages say, or NaN."""

import math
from collections.abc import Callable

import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.speech import judges, packages, pitch, quality
from tests.metrics.speech.signals import RATE, noise, voice

FUNCTIONS = {
    "pesq": [quality.pesq_wb, quality.pesq_nb],
    "pystoi": [quality.stoi, quality.estoi],
    "ai_edge_litert": [quality.visqol_lattice],
    "visqol": [quality.visqol_polynomial],
    "pyworld": [pitch.f0_correlation, pitch.f0_rmse],
    "resemblyzer": [judges.speaker_similarity],
    "torchmetrics": [quality.si_sdr],
}
ALL = [
    pytest.param(module, function, id=function.__name__)
    for module, functions in FUNCTIONS.items()
    for function in functions
]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    clean = voice()
    return clean, clean + noise(len(clean), 0.01, seed=3)


@pytest.mark.parametrize(("module", "function"), ALL)
def test_what_cannot_be_computed_is_nan(module: str, function: Callable[..., float]) -> None:
    pytest.importorskip(module)
    clean = voice(1.0)
    broken = clean.clone()
    broken[100] = math.nan
    silent, constant = torch.zeros_like(clean), torch.full_like(clean, 0.25)
    for other in (silent, broken):
        assert math.isnan(function(clean, other, RATE))
        assert math.isnan(function(other, clean, RATE))
    assert math.isnan(function(clean[:0], clean[:0], RATE))
    if function is not quality.si_sdr:  # which is defined for two samples
        assert math.isnan(function(clean[:1000], clean[:1000], RATE))
    if function in (quality.si_sdr, pitch.f0_correlation):
        assert math.isnan(function(clean, constant, RATE))
    if function is judges.speaker_similarity:
        assert function(clean, clean[:-1], RATE) > 0.9
        return
    with pytest.raises(InputError, match="one length"):
        function(clean, clean[:-1], RATE)


PERFECT = [
    ("pesq", quality.pesq_wb, 4.6439),
    ("pesq", quality.pesq_nb, 4.5486),
    ("pystoi", quality.stoi, 1.0),
    ("pystoi", quality.estoi, 1.0),
    ("pyworld", pitch.f0_correlation, 1.0),
    ("pyworld", pitch.f0_rmse, 0.0),
    ("resemblyzer", judges.speaker_similarity, 1.0),
]


@pytest.mark.parametrize(("module", "function", "perfect"), PERFECT)
def test_identity_is_perfect(module: str, function: Callable[..., float], perfect: float) -> None:
    pytest.importorskip(module)
    clean = voice()
    assert function(clean, clean, RATE) == pytest.approx(perfect, abs=1e-3)


@pytest.mark.parametrize(("module", "function"), ALL)
def test_noise_is_worse_than_identity(module: str, function: Callable[..., float]) -> None:
    pytest.importorskip(module)
    clean, degraded = pair()
    perfect, worse = function(clean, clean, RATE), function(clean, degraded, RATE)
    assert worse > perfect if function is pitch.f0_rmse else worse < perfect


@pytest.mark.parametrize("mode", ["wb", "nb"])
def test_pesq_is_the_package(mode: str) -> None:
    pesq = pytest.importorskip("pesq")
    clean, degraded = pair()
    wide = pesq.pesq(16_000, clean.double().numpy(), degraded.double().numpy(), "wb")
    assert quality.pesq_wb(clean, degraded, RATE) == pytest.approx(wide, abs=1e-3)
    at_8 = voice(rate=8_000)
    other = at_8 + noise(len(at_8), 0.01)
    narrow = pesq.pesq(8_000, at_8.double().numpy(), other.double().numpy(), "nb")
    assert quality.pesq_nb(at_8, other, 8_000) == pytest.approx(narrow, abs=1e-3)


def test_stoi_is_the_package() -> None:
    pystoi = pytest.importorskip("pystoi")
    clean, degraded = pair()
    sides = clean.double().numpy(), degraded.double().numpy()
    assert quality.stoi(clean, degraded, RATE) == pytest.approx(pystoi.stoi(*sides, RATE), abs=1e-3)
    extended = pystoi.stoi(*sides, RATE, extended=True)
    assert quality.estoi(clean, degraded, RATE) == pytest.approx(extended, abs=1e-3)


@pytest.mark.parametrize("lattice", [True, False])
def test_visqol_is_the_package_with_the_mapping_that_its_name_says(lattice: bool) -> None:
    visqol = pytest.importorskip("visqol")
    pytest.importorskip("ai_edge_litert")
    clean, degraded = pair()
    api = visqol.VisqolApi()
    api.create(mode="speech", use_lattice_model=lattice)
    found = api.measure_from_arrays(clean.double().numpy(), degraded.double().numpy(), RATE)
    functions = {True: quality.visqol_lattice, False: quality.visqol_polynomial}
    ours = functions[lattice](clean, degraded, RATE)
    assert ours == pytest.approx(found.moslqo, abs=1e-3)
    assert abs(ours - functions[not lattice](clean, degraded, RATE)) > 0.05


@pytest.mark.slow
def test_dnsmos_is_the_package_and_judges_the_degraded_side() -> None:
    model = pytest.importorskip("speechmos.dnsmos")
    clean = voice(2.3)  # repeated to just one window of its network
    degraded = clean + noise(len(clean), 0.01)
    found = model.run(degraded.numpy(), RATE)
    ours = judges.dnsmos(clean, degraded, RATE)
    assert ours._asdict() == {
        name: pytest.approx(found[f"{name}_mos"], abs=1e-3) for name in ours._fields
    }
    assert judges.dnsmos(torch.zeros_like(clean), degraded, RATE) == ours
    assert all(math.isnan(value) for value in judges.dnsmos(clean, torch.zeros_like(clean), RATE))
    loud = judges.dnsmos(clean, degraded * 100, RATE)  # clipped, not refused
    assert all(math.isfinite(value) for value in loud)


def test_si_sdr_is_its_closed_form_at_any_scale_and_offset() -> None:
    time = torch.arange(16_000) / 16_000
    signal = torch.sin(2 * math.pi * 100 * time)
    error = 0.1 * torch.sin(2 * math.pi * 200 * time)  # orthogonal, a tenth in amplitude
    for scale in (1.0, 0.01, 7.0):
        found = quality.si_sdr(signal, scale * (signal + error) + 0.3, RATE)
        assert found == pytest.approx(20.0, abs=1e-3)
    assert quality.si_sdr(signal, signal, RATE) > 60


def test_pitch_of_a_higher_voice() -> None:
    pytest.importorskip("pyworld")
    low, high = voice(pitch=120.0), voice(pitch=132.0)
    found = pitch.pitch_errors(low, high, RATE)
    assert found.correlation > 0.98
    assert found.rmse == pytest.approx(12.0, abs=1.5)


@pytest.mark.parametrize("rate", [8_000, 24_000])
def test_other_rates_are_resampled(rate: int) -> None:
    pytest.importorskip("pesq")
    clean = voice(rate=rate)
    assert quality.pesq_wb(clean, clean, rate) == pytest.approx(4.6439, abs=1e-3)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package pesq: pip install 'kdlight\[speech"):
        quality.pesq_wb(voice(), voice(), RATE)
