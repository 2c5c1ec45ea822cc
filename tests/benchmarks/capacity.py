"""Which teacher suits a student: what ``python -m tests.benchmarks.seeds oracle_capacity`` trained.

The law of capacity gap (arXiv:2311.07052) has one best teacher, at about 2.5 times the student's
weights. For every seed ``log golden = a + b x + c x^2`` is fitted, x being the logarithm of the
ratio of weights: where c is above 0 and the turn lies among the teachers, that ratio is the best.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import numpy as np

from kdlight.teachers.checkpoint import models_of
from tests.benchmarks.language_studies import EXPERIMENTS, WIDTHS, sized_name
from tests.benchmarks.seeds import finished

NAME = "oracle_capacity"


def best_ratio(ratios: list[float], golden: list[float]) -> float | None:
    """The ratio where the fitted parabola turns upwards; None where it does not among ``ratios``.

    Args:
        ratios: Weights of the teachers over the student's.
        golden: Golden KL of their students, above 0.
    """
    places = np.log(ratios)
    square, slope, _ = np.polyfit(places, np.log(golden), 2)
    if square <= 0:
        return None
    turn = -slope / (2 * square)
    return float(math.exp(turn)) if places.min() <= turn <= places.max() else None


def golden_of(folder: Path | None, model: str) -> float:
    """The golden KL that a run ended in.

    Raises:
        SystemExit: There is no such run yet.
    """
    if folder is None:
        raise SystemExit(f"python -m tests.benchmarks.seeds {NAME} first.")
    rows = json.loads((folder / "summary.json").read_text())
    return next(float(row["golden_kl"]) for row in rows if row["model"] == model)


def weights_of(folder: Path) -> int:
    """Number of weights of what a run trained."""
    _, model = models_of(folder / "checkpoints" / "last.ckpt")[0]
    return sum(each.numel() for each in model.parameters())


def main() -> None:
    """Print a row a teacher, then the fits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    options = parser.parse_args()
    seeds = sorted((options.runs / NAME).glob("seed_*"))
    found = {
        arm: [golden_of(finished(seed / arm), "student") for seed in seeds]
        for arm in EXPERIMENTS[NAME]
    }
    teachers = [Path("runs") / sized_name(width) / "version_0" for width in WIDTHS]
    weights = [weights_of(folder) for folder in teachers]
    print("| teacher | weights | ratio | its golden KL | students' golden KL, median | by seed |")
    print("|---|---|---|---|---|---|")
    for width, folder, count in zip(WIDTHS, teachers, weights, strict=True):
        each = found[f"teacher_{width}"]
        cells = [str(width), str(count), f"{count / weights[0]:.1f}"]
        cells += [f"{golden_of(folder, 'model'):.4f}", f"{statistics.median(each):.4f}"]
        print(f"| {' | '.join(cells)} | {' '.join(f'{value:.4f}' for value in each)} |")
    truth = found["truth"]
    by_seed = " ".join(f"{value:.4f}" for value in truth)
    print(f"| the language | | | 0 | {statistics.median(truth):.4f} | {by_seed} |")
    ratios = [count / weights[0] for count in weights]
    for place, seed in enumerate(seeds):
        best = best_ratio(ratios, [found[f"teacher_{width}"][place] for width in WIDTHS])
        said = "none among these" if best is None else f"{best:.1f} times the student's weights"
        print(f"{seed.name}: best teacher by the fit: {said}")


if __name__ == "__main__":
    main()
