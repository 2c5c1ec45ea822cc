"""Seeds put together: every arm, every teacher and the floors, each metric with its range.

Runs of the same name are seeds of one arm. A seed that was run twice counts once, by its latest
run: a repeated seed is no new evidence.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kdlight.report.columns import FLOOR
from kdlight.report.runs import Row, Run, finite_number, samples_text

TEACHER = "teacher"


@dataclass(frozen=True)
class Spread:
    """A figure that was measured several times.

    Attributes:
        median: Median.
        low: Lowest.
        high: Highest.
        count: How many values.
    """

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Setting:
    """A model at a number of steps, over seeds or runs.

    Attributes:
        steps: Number of sampling steps, or None where none was recorded.
        nfe: Network evaluations of a sample; the steps where none were recorded.
        algorithm: Name of the sampler, "" where none was recorded.
        values: The metrics by key.
    """

    steps: int | None
    nfe: float | None
    algorithm: str
    values: dict[str, Spread]


@dataclass(frozen=True)
class Arm:
    """The seeds of one name.

    Attributes:
        name: Name of its runs.
        seeds: How many seeds have rows.
        iterations: Training iterations of a seed; None where none were recorded.
        cpu_seconds: CPU time of a seed, evaluation included; None where none was recorded.
        rows: One a number of steps, the fewest first.
    """

    name: str
    seeds: int
    iterations: Spread | None
    cpu_seconds: Spread | None
    rows: list[Setting]


@dataclass(frozen=True)
class Teacher:
    """One teacher, merged from all runs that learnt from it.

    Attributes:
        source: Where it comes from, "" where that was not recorded.
        rows: One a number of steps and sampler, by rising NFE. Runs may force a teacher to the same
            steps on unlike grids; then the range says so.
    """

    source: str
    rows: list[Setting]


@dataclass(frozen=True)
class Floor:
    """What as many real samples have, one a number of samples.

    Attributes:
        samples: How many; None where that is not known.
        values: The metrics by key.
    """

    samples: int | None
    values: dict[str, Spread]


def by_seed(
    runs: Iterable[Run], name: str, value: Callable[[Run], float | None]
) -> dict[str, float]:
    """``value`` of an arm's runs, one a seed; runs without a seed count one each.

    Args:
        runs: Runs of any arm.
        name: Name of the arm.
        value: The figure of a run, None where it has none.
    """
    found: dict[str, tuple[int, float]] = {}
    for run in runs:
        number = value(run) if run.name == name else None
        if number is None:
            continue
        seed = run.path.as_posix() if run.seed is None else str(run.seed)
        version = int("".join(filter(str.isdigit, run.version)) or 0)
        if seed not in found or version >= found[seed][0]:
            found[seed] = (version, number)
    return {seed: number for seed, (_, number) in found.items()}


def metric_of(metric: str, model: str, steps: int | None) -> Callable[[Run], float | None]:
    """Reads ``metric`` of ``model`` at ``steps`` steps from a run, for :func:`by_seed`."""

    def value(run: Run) -> float | None:
        rows = (row for row in run.rows if (row.model, row.steps) == (model, steps))
        return next((row.values[metric] for row in rows if metric in row.values), None)

    return value


def overview(runs: Sequence[Run], model: str) -> dict[str, Any]:
    """Arms, teachers and floors of many runs; JSON-ready.

    Args:
        runs: The runs.
        model: Whose rows are an arm's.

    Returns:
        ``arms`` (:class:`Arm`), ``teachers`` (:class:`Teacher`) and ``floors`` (:class:`Floor`), as
        mappings.
    """
    names = dict.fromkeys(run.name for run in runs)
    return {
        "arms": [asdict(_arm(runs, name, model)) for name in names],
        "teachers": [asdict(teacher) for teacher in _teachers(runs)],
        "floors": [asdict(floor) for floor in _floors(runs)],
    }


def _spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


def _arm(runs: Sequence[Run], name: str, model: str) -> Arm:
    rows: dict[int | None, list[Row]] = {}
    for row in (row for run in runs if run.name == name for row in run.rows if row.model == model):
        rows.setdefault(row.steps, []).append(row)

    def spread(value: Callable[[Run], float | None]) -> Spread | None:
        values = by_seed(runs, name, value).values()
        return _spread(values) if values else None

    settings = []
    for steps in sorted(rows, key=lambda steps: steps or 0):
        values = {
            key: found
            for key in _metrics(rows[steps])
            if (found := spread(metric_of(key, model, steps))) is not None
        }
        nfe = spread(metric_of("nfe", model, steps))
        algorithm = rows[steps][0].algorithm
        settings.append(Setting(steps, nfe.median if nfe else steps, algorithm, values))
    measured = by_seed(runs, name, lambda run: 1.0 if _has(run, model) else None)
    return Arm(
        name,
        len(measured),
        spread(lambda run: finite_number(run.facts.get("iterations"))),
        spread(lambda run: finite_number(run.facts.get("cpu_seconds"))),
        settings,
    )


def _has(run: Run, model: str) -> bool:
    return any(row.model == model for row in run.rows)


def _teachers(runs: Sequence[Run]) -> list[Teacher]:
    """Teachers are told apart by their hash, or by their source where they have none.

    One that was measured over unlike numbers of samples is parted by them: distances fall with the
    number of samples, so the best over all would be that of the largest.
    """
    sources: dict[tuple[str, int | None], str] = {}
    rows: dict[tuple[str, int | None], dict[tuple[int | None, float | None, str], list[Row]]] = {}
    for run in runs:
        known = run.facts.get("teacher")
        known = known if isinstance(known, dict) else {"source": known}
        source = str(known.get("source") or "")
        identity = (str(known.get("sha256") or source), run.samples)
        for row in (row for row in run.rows if row.model == TEACHER):
            sources.setdefault(identity, source)
            nfe = row.values.get("nfe", row.steps)
            settings = rows.setdefault(identity, {})
            settings.setdefault((row.steps, nfe, row.algorithm), []).append(row)
    teachers = []
    for identity, settings in rows.items():
        merged = [
            Setting(
                steps,
                nfe,
                algorithm,
                {
                    metric: _spread(row.values[metric] for row in alike if metric in row.values)
                    for metric in _metrics(alike)
                },
            )
            for (steps, nfe, algorithm), alike in settings.items()
        ]
        merged.sort(key=lambda item: (item.nfe or 0, item.steps or 0))
        source, (teacher, samples) = sources[identity], identity
        if sum(other == teacher for other, _ in rows) > 1:
            source = f"{source} ({samples_text(samples)})".lstrip()
        teachers.append(Teacher(source, merged))
    return teachers


def _floors(runs: Sequence[Run]) -> list[Floor]:
    found: dict[int | None, dict[str, list[float]]] = {}
    for run in runs:
        for key, value in ((key, value) for row in run.rows for key, value in row.values.items()):
            if key.endswith(FLOOR):
                figures = found.setdefault(run.samples, {})
                figures.setdefault(key.removesuffix(FLOOR), []).append(value)
    return [
        Floor(samples, {key: _spread(values) for key, values in figures.items()})
        for samples, figures in found.items()
    ]


def _metrics(rows: Iterable[Row]) -> list[str]:
    """The metrics of some rows, floors and the NFE apart."""
    keys = dict.fromkeys(key for row in rows for key in row.values)
    return [key for key in keys if key != "nfe" and not key.endswith(FLOOR)]
