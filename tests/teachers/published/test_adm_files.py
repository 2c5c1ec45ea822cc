"""OpenAI's files give what OpenAI's networks gave for the same weights and inputs."""

import os
from pathlib import Path

import pytest
import torch

from kdlight.commands.convert import run
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser, EDMDenoiser
from kdlight.diffusion.schedules import alphas_cumprod_of
from kdlight.errors import InputError
from kdlight.teachers.diffusion import run_teacher
from kdlight.teachers.published.adm import adm_teacher
from tests.networks.edm.recipe import LABEL, NOISE, SIGMA, check, images
from tests.storage.persistence import Called
from tests.teachers.published.openai import state, write


@pytest.mark.parametrize(
    ("kind", "network", "estimate"),
    [
        (
            "edm",
            (326.544, 676.945, (0.167766, 0.0436994, 0.0282886, 0.507292)),
            (147.602, 508.471, (0.11356, -0.0650558, 0.349328, 0.187612)),
        ),
        (
            "consistency",
            (326.544, 676.945, (0.167766, 0.0436994, 0.0282886, 0.507292)),
            (147.283, 509.359, (0.113609, -0.0653245, 0.350495, 0.187407)),
        ),
    ],
)
@torch.no_grad()
def test_consistency_models_files(kind, network, estimate, tmp_path: Path) -> None:
    path = write(tmp_path / "model.pt", True, 10, True)
    output = tmp_path / "teacher.safetensors"
    run("convert", ["adm", str(path), str(output), "--kind", kind, "--size", "16"])
    teacher = run_teacher(str(output))
    condition = {"label": LABEL}
    check(teacher.denoiser.network(images(), NOISE, condition), *network)
    check(teacher.denoiser(images(), SIGMA, condition), *estimate)
    expected = {"edm": EDMDenoiser, "consistency": ConsistencyDenoiser}
    assert type(teacher.denoiser) is expected[kind]
    assert teacher.steps == ((40,) if kind == "edm" else (1, 2))


@torch.no_grad()
def test_networks_without_scale_and_shift(tmp_path: Path) -> None:
    teacher = adm_teacher(write(tmp_path / "lsun.pt", False, 0, True), "edm", 16)
    output = teacher.denoiser.network(images(), NOISE)
    check(output, 260.637, 667.857, (-0.0971187, -0.277728, -0.166433, 0.386273))


@torch.no_grad()
def test_guided_diffusion_files_and_their_two_orders(tmp_path: Path) -> None:
    path = write(tmp_path / "diffusion.pt", True, 10, False, outputs=6)
    timesteps, condition = torch.tensor([3.0, 700.0]), {"label": LABEL}
    legacy, new = adm_teacher(path, size=16, steps=10), adm_teacher(path)
    assert (legacy.steps, new.steps) == ((10,), (50,))
    assert new.shape == (3, 64, 64)  # by the place of the attention
    output = legacy.denoiser.network(images(), timesteps, condition)
    check(output, 390.546, 703.852, (-0.0213424, -0.283483, -0.140345, 0.513594))
    output = new.denoiser.network(images(), timesteps, condition)
    check(output, 375.484, 697.136, (0.0382884, -0.130155, -0.00291136, 0.525192))
    for teacher, schedule in ((legacy, "linear"), (new, "cosine")):
        assert isinstance(teacher.denoiser, VPDenoiser)
        assert torch.equal(teacher.denoiser.alphas_cumprod, alphas_cumprod_of(schedule))
    estimate = legacy.denoiser(images(), torch.tensor(1.0), condition)
    assert estimate.shape == (2, 3, 16, 16)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "cd.pt", True, 10, True)
    with pytest.raises(InputError, match=r"cd\.pt: kind: expected edm or consistency, found none"):
        adm_teacher(path)
    learned = write(tmp_path / "diffusion.pt", True, 10, False, outputs=6)
    with pytest.raises(InputError, match="kind: expected ddpm for a learned variance, found edm"):
        adm_teacher(learned, "edm")
    tensors = state(True, 10, True)
    for changes, message in (
        ({"time_embed.0.weight": None}, r"found no time_embed\.0\.weight"),
        ({"middle_block.2.in_layers.2.bias": None}, "1 missing"),
        ({"input_blocks.1.0.op.weight": torch.zeros(1)}, "resampling inside residual blocks"),
        ({"extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
        ({"epoch": 3}, "expected a state dict"),
    ):
        changed = {k: v for k, v in (tensors | changes).items() if v is not None}
        torch.save(changed, path)
        with pytest.raises(InputError, match=rf"cd\.pt: .*{message}"):
            adm_teacher(path, "edm")


def test_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"weight": Called(os.system, f"touch {marker}")}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"bad\.pt: expected a checkpoint of tensors"):
        adm_teacher(tmp_path / "bad.pt", "edm")
    assert not marker.exists()
