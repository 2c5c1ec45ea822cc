"""A run's settings hold from any folder."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from kdlight.commands.shared.places import from_anywhere
from tests.commands.tiny import TINY, Run, last_line


def test_what_is_a_path_and_what_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("label", "digits", "teacher", "runs", "last.ckpt"):
        Path(name).touch()
    settings = {
        "data_dir": "data",
        "runs_dir": "runs",
        "weighting": "label",
        "name": "digits",
        "class_path": "last.ckpt",
        "path_or_id": ["teacher", "hub/name"],
        "nested": {"checkpoint": "last.ckpt", "lr": 0.1, "long": "a/" * 3000, "none": None},
        "elsewhere_dir": "/elsewhere",
    }
    assert from_anywhere(settings) == settings | {
        "data_dir": str(tmp_path / "data"),
        "path_or_id": [str(tmp_path / "teacher"), "hub/name"],
        "nested": settings["nested"] | {"checkpoint": str(tmp_path / "last.ckpt")},
    }


def test_a_runs_config_runs_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kdlight: Run
) -> None:
    for index in range(30):
        place = tmp_path / "here" / "pictures" / str(index % 10)
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 8 * index).save(place / f"{index}.png")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = {
        "class_path": "datamodules.images.image_folder.ImageFolderDataModule",
        "init_args": {
            **{"data_dir": "pictures", "size": 8, "channels": 1, "batch_size": 4},
            **{"steps_per_epoch": 2, "heldout": 0.34},
        },
    }
    words = [
        *("--data", yaml.safe_dump(data, default_flow_style=True, width=1000).strip()),
        *("--model.init_args.round_iterations", "1", "--trainer.callbacks", "[]"),
    ]
    code, out, err = kdlight("fit", "--config", TINY, *words)
    assert code == 0, err
    config = last_line(out).absolute().with_name("config.yaml")
    monkeypatch.chdir(tmp_path / "there")
    code, _, err = kdlight("fit", "--config", config)
    assert code == 0, err
    assert (tmp_path / "there" / "runs" / "tiny" / "version_0").is_dir()
