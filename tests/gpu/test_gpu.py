"""What needs a GPU, and on the CPU that the same programs run."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdlight.cli import main
from kdlight.storage.files import load_checkpoint
from tests.gpu import recipes, stand_ins
from tests.gpu.recipes import CONFIGS, run
from tests.gpu.sdxl import TINY, SharedAdapters, batch_of, count, step
from tests.modules.diffusion.pipelines import SIDE, stable_diffusion

DIGITS = CONFIGS / "digits"


@pytest.mark.slow
def test_a_recipe_runs_for_some_steps(tmp_path: Path) -> None:
    measured = run("digits/ect.yaml", tmp_path, 3, 8, "cpu")
    assert measured["steps"] == 3
    assert measured["images_per_second"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["latent/sd15_lcm_lora.yaml", "latent/sd15_dmd2.yaml"])
def test_a_recipe_of_a_pipeline_runs_on_a_stand_in(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipes.read(name)
    config["data"]["init_args"]["size"] = 2 * SIDE
    config["trainer"]["precision"] = "32-true"
    monkeypatch.setattr(recipes, "read", lambda _: config)
    monkeypatch.setitem(
        stand_ins.PIPELINES, "stable-diffusion-v1-5/stable-diffusion-v1-5", stable_diffusion
    )
    measured = run(name, tmp_path, 2, 2, "cpu")
    assert measured.get("steps") == 2, measured


@pytest.mark.slow
def test_a_recipe_of_speech_runs_on_a_stand_in(tmp_path: Path) -> None:
    measured = run("speech/codec_tiny.yaml", tmp_path, 2, 2, "cpu")
    assert measured.get("steps") == 2, measured


@pytest.mark.slow
def test_two_sets_of_adapters_share_weights_and_are_trained_apart() -> None:
    torch.manual_seed(0)
    model = SharedAdapters(TINY, 4, "cpu")
    before = {part: [p.detach().clone() for p in ws] for part, ws in model.trained.items()}
    frozen = [p.clone() for p in model.unet.parameters() if not p.requires_grad]
    step(model, *batch_of(TINY, 1, "cpu"))
    for part, weights in model.trained.items():
        pairs = zip(before[part], weights, strict=True)
        assert sum(not torch.equal(a, b) for a, b in pairs) > len(weights) / 2, part
    assert all(torch.equal(a, b) for a, b in zip(frozen, _frozen(model), strict=True))
    kept, recomputed = (count(TINY, 4, 4, checkpointing)["peak"] for checkpointing in (False, True))
    assert recomputed < kept


def _frozen(model: SharedAdapters) -> list[torch.Tensor]:
    trained = {id(p) for weights in model.trained.values() for p in weights}
    return [p for p in model.unet.parameters() if id(p) not in trained]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_lower_precision_distils_the_digits_as_well(precision: str, tmp_path: Path) -> None:
    found = {}
    for each in ("32-true", precision):
        words = ["fit", "--config", str(DIGITS / "ect.yaml"), "--runs_dir", str(tmp_path / each)]
        assert main([*words, "--trainer.accelerator", "gpu", "--trainer.precision", each]) == 0
        summary = json.loads(next((tmp_path / each).rglob("summary.json")).read_text())
        rows = [row for row in summary if row["model"] == "student" and row["steps"] == 1]
        found[each] = rows[0]["frechet_features"]
    assert found[precision] < 1.5 * found["32-true"]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
@pytest.mark.parametrize("base", ["ddp", "fsdp"])
def test_two_gpus_train_as_one(base: str, tmp_path: Path) -> None:
    words = ["fit", "--config", str(DIGITS / "dmd2.yaml"), "--model.init_args.iterations", "20"]
    words += ["--trainer.callbacks", "[]", "--trainer.accelerator", "gpu"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*words, "--runs_dir", str(one), "--data.init_args.batch_size", "64"]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words_of_two = ["--config", str(CONFIGS / "base" / f"{base}.yaml"), "--trainer.devices", "2"]
    words_of_two += ["--runs_dir", str(two), "--data.init_args.batch_size", "32"]
    subprocess.run(
        [*launch, "-m", "kdlight", *words, *words_of_two],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=900,
    )
    a, b = (load_checkpoint(next(run.rglob("last.ckpt")))["state_dict"] for run in (one, two))
    for key, value in a.items():
        if torch.is_tensor(value):
            assert math.isclose(float((value - b[key]).abs().max()), 0, abs_tol=1e-3), key
