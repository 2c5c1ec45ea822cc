"""Rectangular pictures from the folder to the figures: trained, sampled, measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.commands.tiny import Run, last_line, refused

SMALL = Path(__file__).parents[2] / "configs" / "image_folder" / "small_teacher.yaml"


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    """Twelve wide pictures, each alone in its folder, and ``fit`` of a small network for them."""
    source = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / "pictures" / str(index) / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(source.integers(0, 256, (20, 37, 3), np.uint8)).save(path)
    config = yaml.safe_load(SMALL.read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    network = model["denoiser"]["init_args"]["network"]["init_args"]
    network |= {"size": [8, 16], "block_out_channels": [8, 8], "attention": [False, False]}
    model |= {"shape": [3, 8, 16], "iterations": 2}
    data |= {"size": [8, 16], "data_dir": str(tmp_path / "pictures"), "batch_size": 4}
    report = {"num_samples": 4, "preview": 4, "latency_batch": 0}
    config["trainer"]["callbacks"][0]["init_args"] = report
    config |= {"runs_dir": str(tmp_path / "runs"), "threads": 1}
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(config))
    return ["fit", "--config", tmp_path / "wide.yaml", "--trainer.accelerator", "cpu"]


def test_rectangles(kdlight: Run, words: list[object], tmp_path: Path) -> None:
    code, out, err = kdlight(*words)
    assert code == 0, err
    checkpoint = ["--checkpoint", last_line(out).parent / "checkpoints" / "last.ckpt"]
    samples = tmp_path / "samples.pt"
    assert kdlight("sample", *checkpoint, "--num-samples", "4", "--output", samples).code == 0
    assert torch.load(samples)["image"].shape == (4, 3, 8, 16)
    data = ["--data", tmp_path / "pictures", "--output", tmp_path / "figures.json"]
    code, _, err = kdlight("evaluate", "images", "--samples", samples, *data)
    assert code == 0, err
    assert json.loads((tmp_path / "figures.json").read_text())[0]["frechet_pixels"] > 0


def test_another_shape_is_refused(kdlight: Run, words: list[object], tmp_path: Path) -> None:
    square = ["--data.init_args.size", "16"]
    refused(kdlight, [*words, *square], "(3, 16, 16)", "(3, 8, 16)", where=tmp_path)
