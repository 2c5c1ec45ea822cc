"""Reading run folders: ``config.yaml, metrics.csv, summary.json, run.json, samples/``.

Every piece may be missing, because a run may still be going or have been killed; what is there
must be readable, apart from the last row of ``metrics.csv`` and the last picture, which may be
half written.
"""

import csv
import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, UnidentifiedImageError

from kdlight.core.hints import called
from kdlight.errors import InputError
from kdlight.report.audio import Utterance, load_utterances
from kdlight.storage.json_text import parse_json
from kdlight.storage.yaml_text import load_yaml

MARKS = ("config.yaml", "metrics.csv", "summary.json", "run.json")
"""A folder with any of these is a run."""

BUCKETS = 160
"""A curve with more points is drawn as this many means, each with its range."""


@dataclass(frozen=True)
class Row:
    """One row of ``summary.json``: a model at a number of steps.

    Attributes:
        model: ``teacher``, ``student``, or another name.
        steps: Number of sampling steps, or of a codec's levels, or None where none was recorded.
        algorithm: Name of the sampler, "" where none was recorded.
        values: The finite numbers of the row, ``steps`` apart.
        levels: Figures of each level of a codec: lists of finite numbers.
    """

    model: str
    steps: int | None
    algorithm: str
    values: dict[str, float]
    levels: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """A logged key over training: for each bucket its middle, mean, lowest and highest value."""

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Picture:
    """A readable image file under ``samples/``.

    Attributes:
        path: The file.
        width: In pixels.
        height: In pixels.
        model: Whose samples these are.
        at: Training iteration of a progress grid; number of steps of a final grid; None for an
            animation.
    """

    path: Path
    width: int
    height: int
    model: str
    at: int | None


@dataclass(frozen=True)
class Run:
    """All that a report says about one run folder.

    Attributes:
        path: The folder as it was given.
        name: Name of the arm; runs of the same name are its seeds.
        version: Name of the folder, ``version_N``.
        seed: Seed, or None where none was recorded.
        facts: ``run.json``.
        config: ``config.yaml`` as text, "" if there is none.
        rows: ``summary.json``.
        samples: Over how many samples, or held-out utterances, they were measured; None where that
            is not known.
        preview: The same of its validations.
        logged: ``metrics.csv``: every point (iteration, value), by key.
        curves: The same, one curve a key.
        progress: Student's grids by iteration.
        finals: Final grids by model, then steps.
        animations: GIFs.
        utterances: What a codec made of speech, to listen to.
        notes: Sentences about what could not be shown.
    """

    path: Path
    name: str
    version: str
    seed: int | None
    facts: dict[str, Any]
    config: str
    rows: list[Row]
    samples: int | None
    preview: int | None
    logged: dict[str, list[tuple[float, float]]]
    curves: dict[str, Curve]
    progress: list[Picture]
    finals: list[Picture]
    animations: list[Picture]
    utterances: list[Utterance] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


def load_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: ``path`` is no run folder, or a JSON or text file in it cannot be read.
    """
    _require_run(path)
    facts = _read_json(path / "run.json", dict) or {}
    folder = path.resolve()
    seed = finite_number(facts.get("seed"))
    notes: list[str] = []
    pictures = _pictures(path / "samples", notes)
    logged = _logged(path / "metrics.csv")
    config = _read_text(path / "config.yaml")
    rows = parse_rows(_read_json(path / "summary.json", list) or [], path / "summary.json")
    return Run(
        path=path,
        name=str(facts.get("name") or folder.parent.name),
        version=folder.name,
        seed=None if seed is None else int(seed),
        facts=facts,
        config=config,
        rows=rows,
        samples=_samples(config, rows),
        preview=_setting(config, "preview"),
        logged=logged,
        curves={key: _bucketed(points) for key, points in logged.items()},
        progress=pictures["progress"],
        finals=pictures["final"],
        animations=pictures["trajectory"],
        utterances=load_utterances(path / "samples", notes),
        notes=notes,
    )


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders; seeds that were measured over unlike numbers of samples part their arm.

    Distances fall with the number of samples, so a median over unlike numbers would say nothing.
    The name of each part says its number.

    Raises:
        InputError: As :func:`load_run`, or a run is named twice: it would count as two seeds.
    """
    if twice := [
        path
        for n, path in enumerate(paths)
        if path.resolve() in {each.resolve() for each in paths[:n]}
    ]:
        raise InputError(f"{twice[0]}: expected every run once, found it twice.")
    runs = [load_run(path) for path in paths]
    counts: dict[str, set[int | None]] = {}
    for run in runs:
        if run.rows:
            counts.setdefault(run.name, set()).add(run.samples)
    return [
        replace(run, name=f"{run.name} ({samples_text(run.samples)})")
        if run.rows and len(counts[run.name]) > 1
        else run
        for run in runs
    ]


def samples_text(samples: int | None) -> str:
    """A number of samples in words."""
    return f"{'unknown number of' if samples is None else samples} samples"


def parse_rows(rows: Sequence[Any], source: Path | str = "summary") -> list[Row]:
    """Turn the list that ``summary.json`` holds into rows; missing, null and NaN are left out.

    Raises:
        InputError: A row is not a mapping.
    """
    parsed = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{source}: row {index}: expected an object, found {called(row)}.")
        numbers = {str(key): finite_number(value) for key, value in row.items()}
        steps = numbers.pop("steps", numbers.pop("n_q", None))
        parsed.append(
            Row(
                model=str(row.get("model") or "model"),
                steps=None if steps is None else int(steps),
                algorithm=str(row.get("algorithm") or ""),
                values={key: value for key, value in numbers.items() if value is not None},
                levels={str(key): found for key, cell in row.items() if (found := _list(cell))},
            )
        )
    return parsed


def _samples(config: str, rows: Sequence[Row]) -> int | None:
    """Samples of a final row: a codec's rows say so, of others the configuration."""
    heard = next((row.values["utterances"] for row in rows if "utterances" in row.values), None)
    return _setting(config, "num_samples") if heard is None else int(heard)


def _setting(config: str, name: str) -> int | None:
    """A whole number that one of the callbacks of a configuration is given; None without one."""
    try:
        callbacks = load_yaml(config)["trainer"]["callbacks"]
        found = [callback.get("init_args", {}).get(name) for callback in callbacks]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    return next((number for number in found if isinstance(number, int)), None)


def _require_run(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"{path}: expected a run folder, found no such folder.")
    if any((path / mark).is_file() for mark in MARKS):
        return
    versions = sorted(child.name for child in path.glob("version_*") if child.is_dir())
    if versions:
        raise InputError(
            f"{path}: expected a run folder, found a folder of runs; "
            f"name one of them, such as {path / versions[-1]}."
        )
    raise InputError(
        f"{path}: expected a run folder with at least one of {', '.join(MARKS)}, found none."
    )


def _read_text(path: Path) -> str:
    if not os.path.lexists(path):
        return ""
    if not path.is_file():
        raise InputError(f"{path}: expected a file, found something else.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected UTF-8 text, found something else.") from None


def _read_json(path: Path, kind: type) -> Any:
    text = _read_text(path)
    if not text:
        return None
    try:
        value = parse_json(text, any_number=True)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(value, kind):
        expected = "an object" if kind is dict else "a list of rows"
        raise InputError(f"{path}: expected {expected}, found {called(value)}.")
    return value


def finite_number(value: Any) -> float | None:
    """``value`` as a float, None where it is no number or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _list(value: Any) -> list[float]:
    """``value`` as floats, empty where it is no list of finite numbers."""
    numbers = [finite_number(item) for item in value] if isinstance(value, list) else []
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(numbers) else []


def _cell(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):  # an empty cell, or the torn end of a row being written
        return None
    return value if math.isfinite(value) else None


def _logged(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Points of each logged key, over ``iteration`` where it is logged, else over ``step``.

    Rows that log other keys carry no iteration; they happened at the last one before them.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    reader = csv.DictReader(_read_text(path).replace("\0", "").splitlines())
    axis = "iteration" if "iteration" in (reader.fieldnames or ()) else "step"
    position = 0.0
    for cells in reader:
        here = _cell(cells.get(axis))
        position = position if here is None else here
        for key, text in cells.items():
            if key in (None, "", "epoch", "step", "iteration"):
                continue
            value = _cell(text)
            if value is not None:
                points.setdefault(key, []).append((position, value))
    return dict(sorted(points.items()))


def _bucketed(points: Iterable[tuple[float, float]]) -> Curve:
    ordered = sorted(points, key=lambda point: point[0])
    count = min(BUCKETS, len(ordered))
    edges = [round(index * len(ordered) / count) for index in range(count + 1)]
    curve = Curve([], [], [], [])
    for start, stop in itertools.pairwise(edges):
        values = [value for _, value in ordered[start:stop]]
        curve.x.append(sum(x for x, _ in ordered[start:stop]) / len(values))
        curve.mean.append(sum(values) / len(values))
        curve.low.append(min(values))
        curve.high.append(max(values))
    return curve


_PATTERNS = {
    "progress": re.compile(r"progress_(\d+)\.png"),
    "final": re.compile(r"final_(.+)_(\d+)\.png"),
    "trajectory": re.compile(r"trajectory_?(.*)\.gif"),
}


def _pictures(folder: Path, notes: list[str]) -> dict[str, list[Picture]]:
    """The pictures of each kind, sorted by model, then by iteration or steps."""
    found: dict[str, list[Picture]] = {kind: [] for kind in _PATTERNS}
    for path in sorted(folder.glob("*")):
        for kind, pattern in _PATTERNS.items():
            match = pattern.fullmatch(path.name)
            if not match:
                continue
            try:
                with Image.open(path) as image:
                    image.load()
                    width, height = image.size
            except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
                notes.append(f"samples/{path.name} could not be read and is left out.")
                continue
            model = "student" if kind == "progress" else match[1]
            at = int(match[match.lastindex or 1]) if kind != "trajectory" else None
            found[kind].append(Picture(path, width, height, model, at))
    for pictures in found.values():
        pictures.sort(key=lambda picture: (picture.model, picture.at or 0))
    return found
