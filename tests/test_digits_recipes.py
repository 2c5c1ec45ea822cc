"""Recipes of the digits as users run them, one seed each: docs/methods has the medians of three.

``python -m tests.benchmarks.seeds digits_distilled``, ``digits_from_data`` and ``digits_scores``
measure all of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("cd", {1: {"frechet_features": 1.0}, 2: {"frechet_features": 0.7}}),
        (
            "ict",
            {
                1: {"frechet_features": 0.6, "frechet_pixels": 3.0, "accuracy": 0.98},
                2: {"frechet_features": 0.5},
            },
        ),
        ("dmd2", {1: {"frechet_features": 0.4, "frechet_pixels": 1.8, "accuracy": 0.98}}),
        ("score_forgetting", {1: {"accuracy_forgotten": 0.02, "frechet_features_retained": 0.6}}),
    ],
)
def test_a_recipe_reaches_its_figures(
    name: str, bounds: dict[int, dict[str, float]], tmp_path: Path
) -> None:
    config = f"configs/digits/{name}.yaml"
    subprocess.run(
        [sys.executable, "-m", "kdlight", "fit", "--config", config, "--runs_dir", str(tmp_path)],
        cwd=ROOT,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    run = tmp_path / f"digits_{name}" / "version_0"
    rows = {
        row["steps"]: row
        for row in json.loads((run / "summary.json").read_text(encoding="utf-8"))
        if row["model"] == "student"
    }
    for steps, figures in bounds.items():
        for figure, bound in figures.items():
            found = rows[steps][figure]
            print(f"{name}, {steps} steps: {figure} {found:.4f}")
            assert found >= bound if figure == "accuracy" else found <= bound
    # Neither crowded around the means nor copies of the training images.
    assert rows[1]["variance"] >= 0.85
    assert rows[1]["memorisation"] >= 0.9
