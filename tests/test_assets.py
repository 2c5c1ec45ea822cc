"""The bundled models are what their cards say."""

from pathlib import Path

import pytest
import torch

import kdlight
from datamodules.images.digits import DigitsDataModule
from kdlight.diffusion.generator import noise_for
from kdlight.metrics.images.extractors import ClassifierFeatures, bundled_classifier
from kdlight.metrics.images.generation import GenerationMetrics
from kdlight.storage.files import read_json
from kdlight.teachers.diffusion import bundled_teacher

ASSETS = Path(kdlight.__file__).parent / "assets"


@pytest.mark.parametrize("path", sorted(ASSETS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_an_asset_is_small_and_has_its_card(path: Path) -> None:
    assert path.stat().st_size <= 6e6
    notes = read_json(path.with_suffix(".json"))["notes"]
    assert {"summary", "config", "seed", "command"} <= notes.keys()
    assert path.stem in (ASSETS / "README.md").read_text(encoding="utf-8")


def test_the_digits_teacher_neither_memorises_nor_shrinks() -> None:
    torch.set_num_threads(1)
    judge = bundled_classifier("digits_classifier")
    data = DigitsDataModule()
    metrics = GenerationMetrics(
        data.one_pass("reference"), data.one_pass("heldout"), ClassifierFeatures(judge), judge
    )
    teacher = bundled_teacher("digits_teacher")
    for noise, condition in noise_for(teacher, 2000, 500, 1234, torch.device("cpu")):
        metrics.update(teacher(noise, condition, 18), condition["label"])
    row = {name: float(value) for name, value in metrics.row().items()}
    assert row["frechet_features"] <= 0.45
    assert row["frechet_pixels"] <= 1.0
    assert row["memorisation"] >= 0.97
    assert row["variance"] >= 0.93
    assert row["accuracy"] >= 0.99
    card = read_json(ASSETS / "digits_teacher.json")["notes"]["metrics"][0]
    for name in ("frechet_features", "frechet_pixels", "memorisation", "variance"):
        assert row[name] == pytest.approx(card[name], rel=0.02)


def test_the_judge_knows_the_held_out_digits() -> None:
    judge = bundled_classifier("digits_classifier")
    held_out = DigitsDataModule().splits.heldout
    assert isinstance(held_out, dict)
    guess = judge(held_out["image"]).argmax(1)
    assert float((guess == held_out["label"]).float().mean()) >= 0.99
