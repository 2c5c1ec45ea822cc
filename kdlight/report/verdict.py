"""Which arm is better, said only as loudly as the seeds allow.

Runs of the same name are seeds of one arm. Every arm is compared with a baseline arm on one metric,
for the same model at the same number of steps, once for each number of steps, through the ratio of
geometric means (arm over baseline) and its 95 % interval: Welch's t interval on the logarithms
(Welch, 1947, "The generalization of Student's problem when several different population variances
are involved"), which assumes neither equal variances nor equal numbers of seeds.

* ``BEATS``: the whole interval is on the better side of 1.
* ``NO BEATS``: the whole interval is on the worse side of 1.
* ``INCONCLUSIVE``: anything else, and always with fewer than three seeds in either arm, or where
  the arms were measured over unlike numbers of samples, with which distances fall.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from kdlight.errors import InputError
from kdlight.report.arms import by_seed, metric_of, overview
from kdlight.report.columns import column, columns_of, number_text
from kdlight.report.runs import Run, load_runs, samples_text

MIN_SEEDS = 3
LEVEL = 0.95

HEADLINES = (
    "frechet_features",
    "sliced_wasserstein",
    "frechet_pixels",
    "frechet_pooled_pixels",
    "wer",
    "log_mel_l1",
    "golden_kl",
    "nucleus_f1",
    "top1",
    "mel_patches",
    "linear_probe",
    "entity_f1",
    "answer_accuracy",
    "ndcg_10",
    "perplexity",
)
"""The metric that arms are compared on unless told otherwise: the first that the runs have."""


@dataclass(frozen=True)
class Verdict:
    """An arm against the baseline.

    Attributes:
        arm: Name of the arm.
        baseline: Name of the baseline.
        steps: Number of steps at which both were sampled; None where none was recorded.
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
    steps: int | None
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
    name: str,
    values: Sequence[float],
    baseline: str,
    baseline_values: Sequence[float],
    metric: str,
    steps: int | None = None,
) -> Verdict:
    """The verdict on one arm by the rule of this module.

    Args:
        name: Name of the arm.
        values: Its metric, one value a seed.
        baseline: Name of the baseline arm.
        baseline_values: Its metric, one value a seed.
        metric: Key of the metric, which says which way is better.
        steps: Number of steps at which both were sampled.
    """

    def verdict(
        word: str, reason: str, ratio: float | None, low: float | None, high: float | None
    ) -> Verdict:
        seeds, baseline_seeds = len(values), len(baseline_values)
        return Verdict(name, baseline, steps, word, ratio, low, high, seeds, baseline_seeds, reason)

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
    metric: str | None = None,
    model: str = "student",
    steps: int | None = None,
) -> dict[str, Any]:
    """Read runs and compare their arms; JSON-ready.

    Args:
        runs: Run folders.
        baseline: Name of the arm that the others are compared with; default: that of the first run.
        metric: Key of ``summary.json`` to compare on; default: the first of ``HEADLINES`` that the
            runs have.
        model: Whose rows to compare.
        steps: At how many steps; default: at every number that the baseline shares with an arm.

    Returns:
        ``metric, better, model, steps`` (a list, the fewest first), ``baseline, rows`` (one a run,
        model and steps), ``arms`` (one a number of steps and arm: values by seed, median),
        ``verdicts`` (:class:`Verdict` as a mapping, in the same order) and what
        :func:`~kdlight.report.arms.overview` gives as ``overview``.

    Raises:
        InputError: A folder is no run, or the baseline, metric, model or steps are not in the runs.
    """
    return compare_runs(load_runs(runs), baseline, metric, model, steps)


def compare_runs(
    runs: Sequence[Run],
    baseline: str | None = None,
    metric: str | None = None,
    model: str = "student",
    steps: int | None = None,
) -> dict[str, Any]:
    """:func:`compare` on runs that were read already."""
    if not runs:
        raise InputError("report: expected at least one run folder, found none.")
    names = list(dict.fromkeys(run.name for run in runs))
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise InputError(f"baseline: expected one of {', '.join(names)}, found {baseline}.")
    model = _model(runs, model)
    shown, runs = runs, [_renamed(run, model) for run in runs]
    asked = (metric, steps) != (None, None)
    metric = metric or _headline(runs, model)
    arms: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    counts: list[int | None] = []
    # A run alone is compared with nothing, but what was asked for has to be there all the same.
    if any(run.rows for run in runs) and (asked or len(names) > 1):
        counts = _counts(runs, names, baseline, metric, model, steps)
        if column(metric).better not in ("lower", "higher"):
            raise InputError(
                f"metric: expected one that is better lower or higher, found {metric}."
            )
    for count in counts if len(names) > 1 else []:
        value = metric_of(metric, model, count)
        values = {name: by_seed(runs, name, value) for name in names}
        for name, found in values.items():
            arms.append(
                {
                    "name": name,
                    "steps": count,
                    "seeds": list(found),
                    "values": list(found.values()),
                    "median": statistics.median(found.values()) if found else None,
                }
            )
        base = [*values[baseline].values()]
        verdicts += [
            _unlike(runs, name, baseline, count)
            or judge(name, [*values[name].values()], baseline, base, metric, count)
            for name in names
            if name != baseline
        ]
    return {
        "metric": metric,
        "better": column(metric).better,
        "model": model,
        "steps": counts,
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
            for run in shown
            for row in run.rows
        ],
        "arms": arms,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "overview": overview(runs, model),
    }


def verdict_lines(comparison: dict[str, Any]) -> list[str]:
    """The verdicts of :func:`compare` as lines for a terminal."""
    if not comparison["verdicts"]:
        return []
    shown = column(comparison["metric"])
    lines = []
    for steps in comparison["steps"]:
        lines.append(
            f"{shown.label} ({comparison['better']} is better), {comparison['model']}, "
            f"steps {steps}"
        )
        for arm in (arm for arm in comparison["arms"] if arm["steps"] == steps):
            value = arm["median"]
            median = "none" if value is None else number_text(value, shown) + shown.unit
            lines.append(f"  {arm['name']}: median {median} over {len(arm['values'])} seeds")
        for item in (item for item in comparison["verdicts"] if item["steps"] == steps):
            line = f"  {item['arm']} {item['verdict']} {item['baseline']}"
            if item["ratio"] is not None:
                line += f": ratio {item['ratio']:.3f}"
            if item["low"] is not None:
                line += f" (95 % interval {item['low']:.3f} to {item['high']:.3f})"
            lines.append(line + (f" [{item['reason']}]" if item["reason"] else ""))
    return lines


def _unlike(runs: Sequence[Run], name: str, baseline: str, steps: int | None) -> Verdict | None:
    """No verdict on arms that were measured over unlike numbers of samples; None for alike ones."""
    measured = [
        [run.samples for run in runs if run.rows and run.name == arm] for arm in (name, baseline)
    ]
    if not all(measured) or measured[0][0] == measured[1][0]:
        return None
    told = [samples_text(samples[0]) for samples in measured]
    reason = f"measured over {told[0]}, {baseline} over {told[1]}"
    seeds, others = map(len, measured)
    return Verdict(name, baseline, steps, "INCONCLUSIVE", None, None, None, seeds, others, reason)


def _model(runs: Sequence[Run], model: str) -> str:
    """``model``, or the only one that the runs have, as the codec of codec runs."""
    models = {row.model for run in runs for row in run.rows}
    return next(iter(models)) if model == "student" and len(models) == 1 else model


def _renamed(run: Run, model: str) -> Run:
    """A run whose only model learnt without a teacher, that model standing beside students."""
    if model != "student" or {row.model for row in run.rows} != {"model"}:
        return run
    return replace(run, rows=[replace(row, model=model) for row in run.rows])


def _headline(runs: Sequence[Run], model: str) -> str:
    keys = {key for run in runs for row in run.rows if row.model == model for key in row.values}
    return next((key for key in HEADLINES if key in keys), HEADLINES[0])


def _counts(
    runs: Sequence[Run],
    names: Sequence[str],
    baseline: str,
    metric: str,
    model: str,
    steps: int | None,
) -> list[int | None]:
    """The numbers of steps to compare at, checked against what the runs hold."""
    by_arm: dict[str, set[int | None]] = {name: set() for name in names}
    for run in runs:
        for row in run.rows:
            if row.model == model and metric in row.values:
                by_arm[run.name].add(row.steps)
    everywhere = sorted(set.union(*by_arm.values()), key=lambda count: count or 0)
    if not everywhere:
        found = columns_of(key for run in runs for row in run.rows for key in row.values)
        models = sorted({row.model for run in runs for row in run.rows})
        raise InputError(
            f"metric {metric} of model {model}: found in no run; the runs have metrics "
            f"{', '.join(item.key for item in found) or 'none'} of models "
            f"{', '.join(models) or 'none'}."
        )
    if steps is not None:
        if steps not in everywhere:
            offered = ", ".join(map(str, everywhere))
            raise InputError(f"steps: expected one of {offered}, found {steps}.")
        return [steps]
    others = set[int | None]().union(*(by_arm[name] for name in names if name != baseline))
    shared = by_arm[baseline] & others
    return [count for count in everywhere if count in shared] or everywhere[:1]
