"""The recipes of Stable Diffusion run on small pipelines, and their students export."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from kdlight.callbacks.images.generation import GenerationReport
from kdlight.cli import main
from tests.commands.tiny import last_line

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "latent"
HEAD = "kdlight.networks.images.discriminator.FeatureHead"
MODEL, DATA = "--model.init_args.", "--data.init_args."
RECIPES = ("sd15_dmd2", "sdxl_dmd2", "sdxl_dmd2_lora", "sd15_lcm", "sd15_lcm_lora", "sdxl_lcm_lora")


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Six pictures with their captions, and a file of prompts."""
    source = np.random.default_rng(0)
    for index, caption in enumerate(["a cat", "dogs", "a", "b c", "x", "y"]):
        pixels = source.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(caption)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "prompts.txt").write_text("a cat\ndogs\n")
    return tmp_path


def trained(name: str, folder: str, captioned: Path, **more: str) -> Path:
    """The checkpoint of two batches of a recipe on a small pipeline."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    method, data = config["model"]["init_args"], config["data"]["init_args"]
    options = {
        "--runs_dir": captioned / "runs",
        "--threads": 1,
        MODEL + "teacher.init_args.path_or_id": folder,
        MODEL + "iterations": 2,
        DATA + "path_or_id": folder,
        DATA + "size": 8,
        DATA + "batch_size": 2,
        "--trainer.accelerator": "cpu",
        "--trainer.logger": "false",
        **more,
    }
    if "student_every" in method:
        options[MODEL + "student_every"] = 1
    if "discriminator" in method:
        # Maps of two places on a side, which theirs is too large for.
        options[MODEL + "discriminator"] = (
            f"{{class_path: {HEAD}, init_args: {{layers: [model.mid_block], channels: [8]}}}}"
        )
    paths = {"prompts": captioned / "prompts" / "prompts.txt", "data_dir": captioned}
    options |= {DATA + key: path for key, path in paths.items() if key in data}
    words = [str(word) for pair in options.items() for word in pair]
    assert main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *words]) == 0
    return captioned / "runs" / name / "version_0" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    "name",
    [
        name if name == "sd15_dmd2" else pytest.param(name, marks=pytest.mark.slow)
        for name in RECIPES
    ],
)
def test_a_recipe_trains_and_exports(name, folders, captioned, monkeypatch, capsys):
    monkeypatch.chdir(captioned)
    for hook in ("on_validation_epoch_end", "on_train_end"):
        monkeypatch.setattr(GenerationReport, hook, lambda *_: None)
    if "lora" in name:
        pytest.importorskip("peft")
    checkpoint = trained(name, folders("sdxl" if "sdxl" in name else "sd"), captioned)
    drawn = captioned / "drawn"
    asked = ["--prompts", str(captioned / "prompts" / "prompts.txt"), "--output", str(drawn)]
    assert main(["sample", "--checkpoint", str(checkpoint), "--steps", "1", *asked]) == 0
    assert [each.name for each in sorted(drawn.iterdir())] == [
        f"{index:06d}.{kind}" for index in (0, 1) for kind in ("png", "txt")
    ]
    assert (drawn / "000001.txt").read_text() == "dogs\n"
    steps = "4" if name.startswith("sdxl_dmd2") else "1"
    out = captioned / "student"
    words = ["export", "--checkpoint", str(checkpoint), "--steps", steps, "--output", str(out)]
    assert main(words) == 0
    assert last_line(capsys.readouterr().out) == out
    assert (out / "pytorch_lora_weights.safetensors").is_file() == ("lora" in name)


@pytest.mark.slow
def test_the_second_run_goes_on_from_the_first(folders, captioned, monkeypatch):
    monkeypatch.chdir(captioned)
    for hook in ("on_validation_epoch_end", "on_train_end"):
        monkeypatch.setattr(GenerationReport, hook, lambda *_: None)
    first = trained("sd15_dmd2", folders("sd"), captioned)
    start = MODEL + "student.init_args.teacher.init_args.checkpoint"
    assert trained("sd15_dmd2_gan", folders("sd"), captioned, **{start: str(first)}).is_file()
