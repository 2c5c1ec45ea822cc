"""How soon an arm is as good as the baseline at its end.

At validation a run logs the figures of its student as ``val/<metric>``. The target is the median,
over the baseline's seeds, of the last value logged. A seed's figure is the first validation at
which it is at least as good: in iterations, or in updates of the student, which are fewer where a
method trains other parts in between. Both arms are held to this rule, baseline included, and the
figures are compared as :mod:`kdlight.report.verdict` compares metrics: ratio of geometric means,
Welch's interval, three seeds.

A seed that never gets there counts with its last validation, which is less than it would have
needed. So an arm with such a seed can still lose, but not win. Runs that have not ended, or were
continued from a checkpoint and so lack their beginning, are left out. No figure is finer than the
spacing of the validations, which should be small beside it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kdlight.errors import InputError
from kdlight.report.arms import by_seed
from kdlight.report.columns import column, number_text
from kdlight.report.runs import Run, samples_text
from kdlight.report.verdict import judge

Axis = Literal["iterations", "updates"]
UPDATES = "val/updates"


@dataclass(frozen=True)
class Reach:
    """How soon one arm reaches the target.

    Attributes:
        arm: Name of the arm.
        verdict: ``BEATS``, ``NO BEATS`` or ``INCONCLUSIVE``, "" for the baseline itself.
        median: Median over seeds; None if half of them or more never get there.
        values: One a seed; the last validation of one that never gets there.
        reached: How many seeds get there.
        ratio: Geometric mean over that of the baseline; None if it has none.
        low: Lower end of the 95 % interval of ``ratio``; None with fewer than two seeds an arm.
        high: Upper end.
        reason: Why there is no verdict, "" if there is one.
    """

    arm: str
    verdict: str
    median: float | None
    values: list[float]
    reached: int
    ratio: float | None
    low: float | None
    high: float | None
    reason: str


def compare_reach(
    runs: Sequence[Run], comparison: dict[str, Any], axis: Axis = "iterations"
) -> dict[str, Any]:
    """Judge how soon every arm is as good as the baseline at its end; JSON-ready.

    Args:
        runs: The runs.
        comparison: What :func:`kdlight.report.verdict.compare_runs` says about them: its baseline
            and metric are taken.
        axis: What is counted.

    Returns:
        ``axis, metric, better, target``, ``arms`` (:class:`Reach` as a mapping, the baseline
        first) and ``curves`` (``name, run, x, y`` of every run).

    Raises:
        InputError: There is one arm alone, or the baseline did not log the metric, or its updates,
            at validation, or the validations are over unlike numbers of samples, with which
            distances fall.
    """
    metric, baseline = comparison["metric"], comparison["baseline"]
    names = [baseline, *dict.fromkeys(run.name for run in runs if run.name != baseline)]
    if len(names) < 2:
        raise InputError(f"reach: expected runs of at least two names, found {baseline} alone.")
    curves = {run.path: _curve(run, metric, axis) for run in runs}
    _check_alike([run for run in runs if curves[run.path]])
    finals = by_seed(
        runs, baseline, lambda run: curves[run.path][-1][1] if curves[run.path] else None
    )
    if not finals:
        logged = f"val/{metric}" + (f" and {UPDATES}" if axis == "updates" else "")
        raise InputError(
            f"reach: expected a finished run of {baseline} with {logged} in its metrics.csv, "
            f"found none."
        )
    target = statistics.median(finals.values())
    sign = 1 if column(metric).better == "lower" else -1

    def first(run: Run) -> float | None:
        return next((x for x, y in curves[run.path] if sign * y <= sign * target), None)

    def spent(run: Run) -> float | None:
        found = first(run)
        return curves[run.path][-1][0] if found is None and curves[run.path] else found

    def arrived(run: Run) -> float | None:
        return float(first(run) is not None) if curves[run.path] else None

    times = {name: [*by_seed(runs, name, spent).values()] for name in names}
    reached = {name: int(sum(by_seed(runs, name, arrived).values())) for name in names}
    arms = [_reach(name, baseline, times, reached) for name in names]
    return {
        "axis": axis,
        "metric": metric,
        "better": column(metric).better,
        "target": target,
        "arms": [asdict(arm) for arm in arms],
        "curves": [
            {
                "name": run.name,
                "run": run.label,
                "x": [x for x, _ in points],
                "y": [y for _, y in points],
            }
            for run in runs
            if (points := curves[run.path])
        ],
    }


def reach_lines(reach: dict[str, Any]) -> list[str]:
    """What :func:`compare_reach` found as lines for a terminal."""
    shown, axis = column(reach["metric"]), reach["axis"]
    target = number_text(reach["target"], shown) + shown.unit
    baseline = reach["arms"][0]["arm"]
    lines = [
        f"{axis.capitalize()} to the final {shown.label} of {baseline}, {target}, at validation"
    ]
    for arm in reach["arms"]:
        median = "not reached" if arm["median"] is None else f"median {arm['median']:,.0f}"
        line = f"  {arm['arm']}: {median}, {arm['reached']} of {len(arm['values'])} seeds"
        if arm["verdict"]:
            line += f"; {arm['verdict']} {baseline}"
        if arm["ratio"] is not None and arm["verdict"]:
            line += f": ratio {arm['ratio']:.3f}"
        if arm["low"] is not None:
            line += f" (95 % interval {arm['low']:.3f} to {arm['high']:.3f})"
        lines.append(line + (f" [{arm['reason']}]" if arm["reason"] else ""))
    return lines


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuse validations over unlike numbers of samples."""
    for run in runs:
        if run.preview != runs[0].preview:
            raise InputError(
                f"reach: expected validations of {runs[0].label} and {run.label} over the same "
                f"preview, found {samples_text(runs[0].preview)} and {samples_text(run.preview)}."
            )


def _curve(run: Run, metric: str, axis: Axis) -> list[tuple[float, float]]:
    """The metric at every validation of a whole run; empty if it is not whole, or logged none."""
    if not run.rows or run.facts.get("resumed_from"):
        return []
    points = sorted(run.logged.get(f"val/{metric}", []))
    if axis == "iterations":
        return points
    updates = dict(run.logged.get(UPDATES, []))
    return [(updates[iteration], value) for iteration, value in points if iteration in updates]


def _reach(
    name: str, baseline: str, times: dict[str, list[float]], reached: dict[str, int]
) -> Reach:
    values, count = times[name], reached[name]
    median = statistics.median(values) if 2 * count > len(values) else None
    if name == baseline:
        return Reach(name, "", median, values, count, None, None, None, "")
    found = judge(name, values, baseline, times[baseline], "iterations")  # fewer are better
    word, reason = found.verdict, found.reason
    if word == "BEATS" and count < len(values):
        word, reason = (
            "INCONCLUSIVE",
            f"{len(values) - count} of {len(values)} seeds never got there",
        )
    return Reach(name, word, median, values, count, found.ratio, found.low, found.high, reason)
