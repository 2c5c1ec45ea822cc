"""The curves of ``python -m tests.benchmarks.seeds oracle_hacking``: proxy against golden.

``python -m tests.benchmarks.hacking --figure FILE.png`` prints a row an arm and seed, with the
verdict on its curves, and draws the medians over seeds.
"""

import argparse
import statistics
from pathlib import Path

from kdlight.report.hacking import judge_curves
from kdlight.report.runs import load_run
from tests.benchmarks.language_experiments import EXPERIMENTS
from tests.benchmarks.seeds import finished

NAME = "oracle_hacking"
KEYS = ("golden_kl", "proxy_kl", "train_proxy_kl")

Curves = dict[str, list[tuple[float, float]]]


def curves_of(runs: Path) -> dict[str, dict[int, Curves]]:
    """For every arm the logged curves by seed."""
    found: dict[str, dict[int, Curves]] = {}
    for arm in EXPERIMENTS[NAME]:
        for seed in sorted((runs / NAME).glob("seed_*")):
            folder = finished(seed / arm)
            if folder is not None:
                logged = load_run(folder).logged
                number = int(seed.name.removeprefix("seed_"))
                found.setdefault(arm, {})[number] = {key: logged[f"val/{key}"] for key in KEYS}
    return found


def row(arm: str, seed: int, curves: Curves) -> str:
    """One line of the table: each figure at its best, after how many updates, and at the end."""
    golden, proxy = ([value for _, value in curves[key]] for key in KEYS[:2])
    cells = [arm, str(seed)]
    for key in KEYS[:2]:
        at, best = min(curves[key], key=lambda point: point[1])
        cells.append(f"{best:.4f} ({at:.0f}) -> {curves[key][-1][1]:.4f}")
    found = judge_curves(golden, proxy)
    alarm = next(
        (
            f" from {curves[KEYS[0]][end - 1][0]:.0f}"
            for end in range(1, len(golden) + 1)
            if judge_curves(golden[:end], proxy[:end]).verdict == "hacked"
        ),
        "",
    )
    cells += [f"{curves[KEYS[2]][-1][1]:.4f}", found.verdict + alarm, f"{100 * found.rise:+.0f} %"]
    return f"| {' | '.join(cells)} |"


def draw(found: dict[str, dict[int, Curves]], path: Path) -> None:
    """Medians over seeds, golden over proxy, from the first look to the last."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for arm, seeds in found.items():
        golden, proxy = (
            [
                statistics.median(points)
                for points in zip(
                    *([v for _, v in each[key]] for each in seeds.values()), strict=True
                )
            ]
            for key in KEYS[:2]
        )
        (line,) = axes.plot(proxy, golden, label=arm.replace("_", " "), linewidth=1)
        axes.plot(proxy[-1], golden[-1], "o", color=line.get_color(), markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="held-out proxy KL", ylabel="golden KL")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the table; draw the figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--figure", type=Path, default=None)
    options = parser.parse_args()
    found = curves_of(options.runs)
    print("| arm | seed | golden KL | held-out proxy | train proxy | verdict | rise |")
    print("|---|---|---|---|---|---|---|")
    for arm, seeds in found.items():
        for seed, curves in seeds.items():
            print(row(arm, seed, curves))
    if options.figure is not None:
        draw(found, options.figure)
        print(options.figure)


if __name__ == "__main__":
    main()
