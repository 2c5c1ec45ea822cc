"""Published statistics, sample files of other programs, several seeds and processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from kdlight.cli import main
from tests.commands.tiny import Run, last_line


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--features`` of a random vision model of 16 features."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("vision")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(intermediate_size=16, image_size=16, patch_size=8, **shape)
    ViTModel(config).save_pretrained(place)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(place)
    return f"transformers:{place}"


def rows_of(kdlight: Run, output: Path, *words: object) -> list[dict[str, float]]:
    code, out, err = kdlight("evaluate", "images", *words, "--output", output)
    assert (code, last_line(out)) == (0, output), err
    rows: list[dict[str, float]] = json.loads(output.read_text())
    return rows


def test_samples_score_alike_in_every_form(
    checkpoint: Path, kdlight: Run, vision: str, tmp_path: Path
) -> None:
    """OpenAI's file and a folder of PNGs hold the same bytes; statistics replace the data."""
    words = ["--checkpoint", checkpoint, "--num-samples", 40, "--batch-size", 15, "--steps", 1]
    for place in (tmp_path / "x.npz", tmp_path / "folder"):
        code, out, _ = kdlight("sample", *words, "--output", place)
        assert (code, last_line(out)) == (0, place)
    with np.load(tmp_path / "x.npz") as archive:
        assert (archive["arr_0"].dtype, archive["arr_0"].shape) == (np.uint8, (40, 8, 8, 1))
        assert archive["arr_1"].tolist() == [number % 10 for number in range(40)]
        first = archive["arr_0"][0, :, :, 0]
    files = sorted((tmp_path / "folder").iterdir())
    assert [file.name for file in files[:2]] == ["000000.png", "000001.png"]
    with Image.open(files[0]) as picture:
        assert np.array_equal(np.asarray(picture), first)
    stats = tmp_path / "digits.npz"
    made = ["--data", "digits", "--features", vision, "--output", stats]
    code, out, _ = kdlight("evaluate", "statistics", *made)
    assert (code, last_line(out)) == (0, stats)
    found = []
    for place in ("x.npz", "folder"):
        given = ["--samples", tmp_path / place, "--features", vision, "--reference", stats]
        (row,) = rows_of(kdlight, tmp_path / "figures.json", *given)
        assert set(row) == {"model", "fd_transformers"}
        found.append(row["fd_transformers"])
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    (row,) = rows_of(kdlight, tmp_path / "figures.json", *given, "--data", "digits")
    assert row["fd_transformers"] == pytest.approx(found[0], rel=1e-9)
    assert row["frechet_transformers"] > 0
    own = ["--samples", tmp_path / "x.npz", "--features", vision, "--output", tmp_path / "own.npz"]
    assert kdlight("evaluate", "statistics", *own).code == 0
    (row,) = rows_of(kdlight, tmp_path / "f.json", *given[:-1], tmp_path / "own.npz")
    assert row["fd_transformers"] == pytest.approx(0, abs=1e-9)


def test_repeats_have_a_row_each_and_random_labels_their_seed(
    checkpoint: Path, kdlight: Run, vision: str, tmp_path: Path
) -> None:
    stats = tmp_path / "digits.npz"
    kdlight("evaluate", "statistics", "--data", "digits", "--features", vision, "--output", stats)
    words = ["--checkpoint", checkpoint, "--num-samples", 30, "--steps", 1, "--features", vision]
    words += ["--reference", stats, "--random-labels", "--seed", 5, "--repeats", 2]
    rows = rows_of(kdlight, tmp_path / "figures.json", *words)
    assert [row["seed"] for row in rows] == [5, 6]
    assert rows[0]["fd_transformers"] != rows[1]["fd_transformers"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected --data or --reference to compare samples with, found neither"),
        (["--reference", "x.npz"], "--reference: expected the --features that its statistics"),
        (
            ["--reference", "x.npz", "--features", "inception", "--forgotten", 3],
            "--forgotten: expected --data, found --reference",
        ),
        (["--data", "digits", "--repeats", 3], "--repeats: expected a --checkpoint to sample from"),
        (["--data", "digits", "--random-labels"], "--random-labels: expected a --checkpoint"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[object], sentence: str, kdlight: Run, tmp_path: Path
) -> None:
    code, _, err = kdlight("evaluate", "images", "--samples", tmp_path, *words)
    assert code == 2
    assert sentence in err


def test_a_folder_that_holds_something_is_not_written_to(
    checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    code, _, err = kdlight("sample", "--checkpoint", checkpoint, "--output", tmp_path)
    assert code == 2
    assert "expected a new or empty folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_two_processes_measure_what_one_does(checkpoint: Path, tmp_path: Path) -> None:
    words = ["evaluate", "images", "--checkpoint", str(checkpoint), "--data", "digits"]
    words += ["--classifier", "digits_classifier", "--num-samples", "250", "--batch-size", "40"]
    words += ["--forgotten", "3", "--steps", "1", "--output"]
    assert main([*words, str(tmp_path / "one.json")]) == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    done = subprocess.run(
        [sys.executable, *torchrun, "kdlight", *words, str(tmp_path / "two.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.json") == 1, "the first process alone speaks"
    (one,), (two,) = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    for key in one.keys() - {"ms_per_image", "model", "algorithm"}:
        assert two[key] == pytest.approx(one[key], rel=1e-6), key
