"""The colour quick start as a newcomer runs it, one seed of docs/tutorials/quickstart_color.md."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_one_step_draws_what_the_teacher_draws_in_eighteen(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kdlight", "fit", "--runs_dir", str(tmp_path)]
    config = "configs/nouns/progressive_distillation.yaml"
    subprocess.run(
        [*command, "--config", config],
        cwd=ROOT,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    run = tmp_path / "quickstart_color" / "version_0"
    rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    by_walk = {(row["model"], row["steps"]): row for row in rows}
    teacher, student = by_walk["teacher", 18], by_walk["student", 1]
    assert teacher["frechet_features"] <= 0.45
    assert teacher["crisp"] >= 0.98
    assert student["frechet_features"] <= 1.4
    assert student["frechet_pooled_pixels"] <= 2.0
    assert by_walk["teacher", 1]["frechet_features"] >= 30 * student["frechet_features"]
    assert student["crisp"] >= 0.65
    assert student["covered"] >= 125 / 128
    assert student["variance"] >= 0.88
    # A ratio of 35 network calls to one, measured in turns.
    assert student["speed_up"] >= 25
