"""Methods with a teacher out of a released file, and students that start as its copies."""

from pathlib import Path

import pytest

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.networks.images.discriminator import FeatureHead, MeanHead
from kdlight.networks.images.edm.song import SongUNet
from kdlight.teachers.published.edm import edm_teacher
from tests.exactness import diffusion_cases
from tests.exactness.harness import differing, fit, state
from tests.networks.edm.recipe import filled
from tests.teachers.published.files import EDM, write_network


def network() -> SongUNet:
    return filled(
        SongUNet(4, 1, 2, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attention=(2,))
    )


@pytest.fixture
def teacher(tmp_path: Path) -> Generator:
    changes = {"model_channels": 16, "attn_resolutions": [2]}
    path = write_network(tmp_path / "edm.pkl", network(), changes, "EDMPrecond", EDM)
    return edm_teacher(path)


SLOW = ("progressive_distillation", "sid", "sida")


@pytest.mark.parametrize(
    "name",
    ["consistency_tuning", "dmd2", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_trained_to_its_end(name: str, teacher: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    patched = {
        "tiny_teacher": lambda: teacher,
        "tiny_denoiser": lambda *_: EDMDenoiser(network().train()),
        "FeatureHead": lambda *_, maps: FeatureHead(["dec.4x4_block1"], [16]),
        "MeanHead": lambda _: MeanHead(["dec.2x2_in1"]),
    }
    for attribute, value in patched.items():
        monkeypatch.setattr(diffusion_cases, attribute, value)
    case = diffusion_cases.DIFFUSION[name]
    module = case.make()
    before = state(module)
    fit(module, case.data())
    assert (module.iteration, module.non_finite_total) == (case.iterations, 0)
    assert any(".dec." in name for name in differing(before, state(module)))
