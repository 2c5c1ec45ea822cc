"""EDM's files give the outputs of the networks in them."""

import os
from pathlib import Path

import pytest
import torch

import kdlight
from kdlight.commands.convert import run
from kdlight.diffusion.baselines import ContinuousVPDenoiser, VEDenoiser
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.samplers import SAMPLERS
from kdlight.diffusion.schedules import alphas_cumprod_of, sigma_from_alpha_bar
from kdlight.errors import InputError
from kdlight.storage.files import sha256_of
from kdlight.teachers.diffusion import run_teacher
from kdlight.teachers.published.edm import edm_teacher
from tests.networks.edm.recipe import LABEL, SIGMA, augment, images
from tests.storage.persistence import Called, Stored, preconditioned, write
from tests.teachers.published.files import EDM, adm_file, ncsnpp_file, song_file

LABELS = {"label": LABEL}


@torch.no_grad()
def test_converted_outputs_are_equal(tmp_path: Path) -> None:
    path, network = song_file(tmp_path / "edm-small.pkl")
    output = tmp_path / "teacher.safetensors"
    run("convert", ["edm", str(path), str(output), "--steps", "9"])
    expected = EDMDenoiser(network)(images(), SIGMA, {"label": LABEL, "augment": augment()})
    teacher = run_teacher(str(output))
    found = teacher.denoiser(images(), SIGMA, {"label": LABEL, "augment": augment()})
    assert torch.equal(found, expected)
    assert (teacher.shape, teacher.steps, teacher.num_classes) == ((3, 16, 16), (9,), 10)
    assert kdlight.load(output).sample(2, steps=2).images.shape == (2, 3, 16, 16)
    with pytest.raises(InputError, match="--sample-rate: convert edm has no such option"):
        run("convert", ["edm", str(path), str(tmp_path / "a.safetensors"), "--sample-rate", "8"])


@torch.no_grad()
def test_a_configuration_names_the_file_itself(tmp_path: Path) -> None:
    path, network = song_file(tmp_path / "edm-small.pkl", label_dropout=0.1, dropout=0.05)
    teacher = edm_teacher(str(path))
    assert teacher.provenance == {"source": str(path), "sha256": sha256_of(path)}
    assert not teacher.training
    inner = teacher.denoiser.network
    assert inner.null_class
    assert inner.enc["16x16_block0"].dropout.p == 0.05
    noise, condition = images(), {"label": LABEL}
    sigmas = teacher.grid.sigmas(2)
    expected = SAMPLERS["heun"](EDMDenoiser(network), 80 * noise, sigmas, condition)
    torch.testing.assert_close(teacher(noise, condition, steps=2), expected)


@torch.no_grad()
def test_baselines(tmp_path: Path) -> None:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    path, network = ncsnpp_file(tmp_path / "ve.pkl", "VEPrecond", sigma_min=0.02, sigma_max=100)
    teacher = edm_teacher(path)
    assert isinstance(teacher.denoiser, VEDenoiser)
    raw = network(x, (SIGMA / 2).log())
    expected = x + SIGMA[:, None, None, None] * raw
    torch.testing.assert_close(teacher.denoiser(x, SIGMA), expected)
    assert teacher.grid.sigmas(5)[:5].tolist()[::4] == [80.0, 0.02]
    attributes = {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5}
    path, network = ncsnpp_file(tmp_path / "vp.pkl", "VPPrecond", **attributes)
    denoiser = edm_teacher(path).denoiser
    assert isinstance(denoiser, ContinuousVPDenoiser)
    assert denoiser.sigma_max == pytest.approx(152.167, rel=1e-5)
    times = 999 * denoiser.time(SIGMA)
    assert times.tolist() == pytest.approx([144.669, 475.582], rel=1e-5)
    raw = network(x / (1 + SIGMA**2).sqrt()[:, None, None, None], times.float())
    torch.testing.assert_close(denoiser(x, SIGMA), x - SIGMA[:, None, None, None] * raw)
    assert denoiser.prior(x, torch.tensor(3.0)) == pytest.approx(x * 10**0.5)


@torch.no_grad()
def test_adm_and_the_baseline_that_rounds(tmp_path: Path) -> None:
    path, network = adm_file(tmp_path / "adm.pkl", "EDMPrecond", **EDM)
    expected = EDMDenoiser(network)(images(), SIGMA, {"label": LABEL})
    assert torch.equal(edm_teacher(path).denoiser(images(), SIGMA, {"label": LABEL}), expected)
    levels = sigma_from_alpha_bar(alphas_cumprod_of("cosine")).flip(0).float()
    table = torch.cat([levels, torch.zeros(1)])
    path, network = adm_file(tmp_path / "iddpm.pkl", "iDDPMPrecond", buffers={"u": table})
    teacher = edm_teacher(path, steps=5)
    assert isinstance(teacher.denoiser, VPDenoiser)
    sigmas = teacher.grid.sigmas(5)[:-1]
    off = (sigmas[:, None] / levels.double() - 1).abs().min(dim=1).values
    assert off.max() < 1e-6
    assert teacher.denoiser.timestep(sigmas).frac().eq(0).all()
    sigma = levels[710].double()
    raw = network(images() / (1 + sigma**2).sqrt().float(), torch.full((2,), 289.0), LABELS)
    estimate = teacher.denoiser(images(), sigma, LABELS)
    torch.testing.assert_close(estimate, images() - sigma.float() * raw)
    path, _ = adm_file(tmp_path / "iddpm.pkl", "iDDPMPrecond")
    with pytest.raises(InputError, match="expected the noise levels u, found none"):
        edm_teacher(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_type": "skip"}, "decoder_type: expected standard, found skip"),
        ({"out_channels": 4}, "out_channels: expected 3 or 6, found 4"),
        ({"depth": 4}, "SongUNet: unknown setting depth"),
        ({"model_channels": 64}, "weight .*: expected shape"),
        ({"num_blocks": 2}, "weights do not fit the model"),
        ({"channel_mult": "wide"}, "make no network"),
    ],
)
def test_other_networks_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    path, _ = song_file(tmp_path / "edm.pkl", **changes)
    with pytest.raises(InputError, match=rf"edm\.pkl: .*{message}"):
        edm_teacher(path)


def test_filters_that_differ_from_the_settings_are_refused(tmp_path: Path) -> None:
    path, _ = ncsnpp_file(tmp_path / "a.pkl", "VEPrecond", (1, 2, 2, 1), sigma_min=1, sigma_max=2)
    with pytest.raises(InputError, match=r"resample_filter: expected the filter \[1, 3, 3, 1\]"):
        edm_teacher(path)


def test_nothing_is_written_of_a_malicious_file(tmp_path: Path) -> None:
    marker, output = tmp_path / "ran", tmp_path / "teacher.safetensors"
    path = write(tmp_path / "bad.pkl", {"ema": Called(os.system, f"touch {marker}")})
    with pytest.raises(InputError, match=r"bad\.pkl: refused: it names posix\.system"):
        run("convert", ["edm", str(path), str(output)])
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pkl"]


def test_other_classes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    unknown = Stored("Other", {})
    for content, message in (
        ({"ema": unknown}, "expected a network of EDMPrecond, .*, found Other"),
        ({"ema": preconditioned(unknown, "EDMPrecond", **EDM)}, "expected a SongUNet.*Other"),
        ({"net": unknown}, "expected a network, found something else"),
    ):
        with pytest.raises(InputError, match=message):
            edm_teacher(write(path, content))
