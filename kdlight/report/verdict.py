"""Which arm is better, said only as loudly as the seeds allow.

Runs of the same name are seeds of one arm. Every arm is compared with a baseline arm on one metric,
for the same model at the same number of steps, through the ratio of geometric means (arm over
baseline) and its 95 % interval: Welch's t interval on the logarithms (Welch, 1947, "The
generalization of Student's problem when several different population variances are involved"),
which assumes neither equal variances nor equal numbers of seeds.

* ``BEATS``: the whole interval is on the better side of 1.
* ``NO BEATS``: the whole interval is on the worse side of 1.
* ``INCONCLUSIVE``: anything else, and always with fewer than three seeds in either arm.

A seed that was run twice counts once, by its latest run: a repeated seed is no new evidence.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from kdlight.errors import InputError
from kdlight.report.columns import column, columns_of, number_text
from kdlight.report.runs import Row, Run, load_run

MIN_SEEDS = 3
LEVEL = 0.95


@dataclass(frozen=True)
class Verdict:
    """An arm against the baseline.

    Attributes:
        arm: Name of the arm.
        baseline: Name of the baseline.
        verdict: ``BEATS``, ``NO BEATS`` or ``INCONCLUSIVE``.
        ratio: Geometric mean of the arm over that of the baseline; None if it has none.
        low: Lower end of the 95 % interval of ``ratio``; None with fewer than two seeds an arm.
        high: Upper end.
        seeds: Number of seeds of the arm.
        baseline_seeds: Number of seeds of the baseline.
        reason: Why there is no verdict, "" if there is one.
    """

    arm: str
    baseline: str
    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    seeds: int
    baseline_seeds: int
    reason: str


def ratio_interval(
    arm: Sequence[float], baseline: Sequence[float]
) -> tuple[float, float | None, float | None]:
    """Ratio of geometric means with its 95 % Welch interval.

    Args:
        arm: Positive values, one a seed.
        baseline: Positive values, one a seed.

    Returns:
        Ratio, low, high; low and high are None with fewer than two values on either side.
    """
    logs = [[math.log(value) for value in values] for values in (arm, baseline)]
    difference = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    if min(len(arm), len(baseline)) < 2:
        return math.exp(difference), None, None
    # Squared standard errors of the two means, and Satterthwaite's degrees of freedom.
    errors = [statistics.variance(values) / len(values) for values in logs]
    total = sum(errors)
    margin = 0.0
    if total > 0:
        freedom = total**2 / sum(
            error**2 / (len(values) - 1) for error, values in zip(errors, logs, strict=True)
        )
        margin = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(total)
    return math.exp(difference), math.exp(difference - margin), math.exp(difference + margin)


def judge(
    name: str, values: Sequence[float], baseline: str, baseline_values: Sequence[float], metric: str
) -> Verdict:
    """The verdict on one arm by the rule of this module.

    Args:
        name: Name of the arm.
        values: Its metric, one value a seed.
        baseline: Name of the baseline arm.
        baseline_values: Its metric, one value a seed.
        metric: Key of the metric, which says which way is better.
    """

    def verdict(
        word: str, reason: str, ratio: float | None, low: float | None, high: float | None
    ) -> Verdict:
        seeds, baseline_seeds = len(values), len(baseline_values)
        return Verdict(name, baseline, word, ratio, low, high, seeds, baseline_seeds, reason)

    fewest = min(len(values), len(baseline_values))
    if fewest == 0:
        empty = name if not values else baseline
        return verdict("INCONCLUSIVE", f"{empty} has no value", None, None, None)
    if min(*values, *baseline_values) <= 0:
        return verdict("INCONCLUSIVE", "a ratio needs positive values", None, None, None)
    ratio, low, high = ratio_interval(values, baseline_values)
    if low is None or high is None or fewest < MIN_SEEDS:
        return verdict("INCONCLUSIVE", "needs three seeds", ratio, low, high)
    below, above = high < 1, low > 1
    if not (below or above):
        return verdict("INCONCLUSIVE", "the interval holds 1", ratio, low, high)
    better = below if column(metric).better == "lower" else above
    return verdict("BEATS" if better else "NO BEATS", "", ratio, low, high)


def compare(
    runs: Sequence[Path],
    baseline: str | None = None,
    metric: str = "frechet_features",
    model: str = "student",
    steps: int | None = None,
) -> dict[str, Any]:
    """Read runs and compare their arms; JSON-ready.

    Args:
        runs: Run folders.
        baseline: Name of the arm that the others are compared with; default: that of the first run.
        metric: Key of ``summary.json`` to compare on.
        model: Whose rows to compare.
        steps: At how many steps; default: the fewest at which every arm has the metric.

    Returns:
        ``metric, better, model, steps, baseline, rows`` (one a run, model and steps), ``arms``
        (values by seed, median) and ``verdicts`` (:class:`Verdict` as a mapping).

    Raises:
        InputError: A folder is no run, or the baseline, metric, model or steps are not in the runs.
    """
    return compare_runs([load_run(path) for path in runs], baseline, metric, model, steps)


def compare_runs(
    runs: Sequence[Run], baseline: str | None, metric: str, model: str, steps: int | None
) -> dict[str, Any]:
    """:func:`compare` on runs that were read already."""
    if not runs:
        raise InputError("report: expected at least one run folder, found none.")
    names = list(dict.fromkeys(run.name for run in runs))
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise InputError(f"baseline: expected one of {', '.join(names)}, found {baseline}.")
    better = column(metric).better
    verdicts: list[Verdict] = []
    arms = []
    if len(names) > 1 and any(run.rows for run in runs):
        if better not in ("lower", "higher"):
            raise InputError(
                f"metric: expected one that is better lower or higher, found {metric}."
            )
        steps = _steps(runs, metric, model, steps)
        values = {name: _by_seed(runs, name, metric, model, steps) for name in names}
        arms = [
            {
                "name": name,
                "seeds": list(values[name]),
                "values": list(values[name].values()),
                "median": statistics.median(values[name].values()) if values[name] else None,
            }
            for name in names
        ]
        verdicts = [
            judge(name, [*values[name].values()], baseline, [*values[baseline].values()], metric)
            for name in names
            if name != baseline
        ]
    return {
        "metric": metric,
        "better": better,
        "model": model,
        "steps": steps,
        "baseline": baseline,
        "rows": [
            {
                "run": run.label,
                "name": run.name,
                "seed": run.seed,
                "model": row.model,
                "steps": row.steps,
                "algorithm": row.algorithm,
                **row.values,
            }
            for run in runs
            for row in run.rows
        ],
        "arms": arms,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def verdict_lines(comparison: dict[str, Any]) -> list[str]:
    """The verdicts of :func:`compare` as lines for a terminal."""
    if not comparison["verdicts"]:
        return []
    shown = column(comparison["metric"])
    lines = [
        f"{shown.label} ({comparison['better']} is better), {comparison['model']}, "
        f"steps {comparison['steps']}"
    ]
    for arm in comparison["arms"]:
        median = "none" if arm["median"] is None else number_text(arm["median"], shown) + shown.unit
        lines.append(f"  {arm['name']}: median {median} over {len(arm['values'])} seeds")
    for item in comparison["verdicts"]:
        line = f"  {item['arm']} {item['verdict']} {item['baseline']}"
        if item["ratio"] is not None:
            line += f": ratio {item['ratio']:.3f}"
        if item["low"] is not None:
            line += f" (95 % interval {item['low']:.3f} to {item['high']:.3f})"
        lines.append(line + (f" [{item['reason']}]" if item["reason"] else ""))
    return lines


def _matching(run: Run, metric: str, model: str) -> list[Row]:
    return [row for row in run.rows if row.model == model and metric in row.values]


def _steps(runs: Sequence[Run], metric: str, model: str, steps: int | None) -> int | None:
    """The number of steps to compare at, checked against what the runs hold."""
    having = [(run.name, row) for run in runs for row in _matching(run, metric, model)]
    if not having:
        found = columns_of(key for run in runs for row in run.rows for key in row.values)
        models = sorted({row.model for run in runs for row in run.rows})
        raise InputError(
            f"metric {metric} of model {model}: found in no run; the runs have metrics "
            f"{', '.join(item.key for item in found) or 'none'} of models "
            f"{', '.join(models) or 'none'}."
        )
    by_arm: dict[str, set[int | None]] = {run.name: set() for run in runs}
    for name, row in having:
        by_arm[name].add(row.steps)
    everywhere = set.union(*by_arm.values())
    if steps is not None:
        if steps not in everywhere:
            offered = ", ".join(str(item) for item in sorted(everywhere, key=lambda n: n or 0))
            raise InputError(f"steps: expected one of {offered}, found {steps}.")
        return steps
    return min(set.intersection(*by_arm.values()) or everywhere, key=lambda n: n or 0)


def _by_seed(
    runs: Sequence[Run], name: str, metric: str, model: str, steps: int | None
) -> dict[str, float]:
    """The metric of an arm, one value a seed; runs without a seed count one each."""
    values: dict[str, tuple[int, float]] = {}
    for run in runs:
        for row in _matching(run, metric, model):
            if run.name != name or row.steps != steps:
                continue
            seed = run.path.as_posix() if run.seed is None else str(run.seed)
            version = int("".join(filter(str.isdigit, run.version)) or 0)
            if seed not in values or version >= values[seed][0]:
                values[seed] = (version, row.values[metric])
    return {seed: value for seed, (_, value) in values.items()}
