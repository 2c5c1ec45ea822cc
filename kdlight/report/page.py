"""``report.html``: one file that holds its data, pictures and script, and fetches nothing."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from kdlight.errors import InputError
from kdlight.report.audio import embedded
from kdlight.report.balance import balance_of
from kdlight.report.columns import FLOOR, columns_of
from kdlight.report.figures.logged import logged_word
from kdlight.report.next_steps import next_steps
from kdlight.report.reach import Axis, compare_reach
from kdlight.report.runs import Curve, Picture, Run, load_runs
from kdlight.report.token_samples import read_walks
from kdlight.report.verdict import compare_runs
from kdlight.storage.atomic import atomic_path

MAX_PROGRESS = 48
"""More progress grids than this are thinned evenly, so that a page can still be mailed."""

MAX_AUDIO = 6_500_000
"""Bytes of audio and spectrograms of all runs together, before they are encoded as text."""


SCRIPTS = (
    "kit",
    "chart",
    "table",
    "samples",
    "tokens",
    "codec",
    "run",
    "arms",
    "verdict",
    "side",
    "page",
)
"""The page's script in its order: the last one starts."""


def write_report(
    runs: Sequence[Path],
    output: Path,
    baseline: str | None = None,
    metric: str | None = None,
    model: str = "student",
    steps: int | None = None,
    reach: Axis | None = None,
) -> Path:
    """Write one self-contained HTML page over one or many runs.

    Args:
        runs: Run folders, ``runs/<name>/version_N``.
        output: The page, ``.html``; replaced as a whole or not at all.
        baseline: Name of the arm that the others are compared with; default: that of the first run.
        metric: Key of ``summary.json`` that the verdicts are on; default: the headline distance
            that the runs have.
        model: Whose rows the verdicts compare.
        steps: At how many steps; default: at every number that the baseline shares with an arm.
        reach: In what to judge how soon an arm is as good as the baseline at its end; None for
            no such verdict.

    Returns:
        ``output``.

    Raises:
        InputError: ``output`` cannot be a page, a folder is no run, or the baseline, metric, model
            or steps are not in the runs, or nothing there says how soon.
    """
    if output.suffix != ".html":
        raise InputError(f"{output}: expected a name that ends in .html.")
    if output.is_dir():
        raise InputError(f"{output}: expected a file to write, found a folder.")
    loaded = load_runs(runs)
    comparison = compare_runs(loaded, baseline, metric, model, steps)
    if reach is not None:
        comparison["reach"] = compare_reach(loaded, comparison, reach)
    text = render(page_data(loaded, comparison), " · ".join({run.name: None for run in loaded}))
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return output


def render(data: dict[str, Any], title: str) -> str:
    """The page for ``data``.

    The content security policy admits this style and this script by hash and images and audio by
    data URI, nothing else: whatever a run folder holds, the page cannot fetch, send or execute it.
    """
    style = _part("page.css")
    script = "".join(_part(f"{name}.js") for name in SCRIPTS)
    parts = {
        "title": html.escape(f"{title} - kdlight"),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "data": embed(data),
    }
    text = _part("page.html")
    # One pass from left to right, so that no part is searched for the names of other parts.
    pieces = text.split("{{")
    return pieces[0] + "".join(
        parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:])
    )


def embed(data: Any) -> str:
    """JSON that is safe inside a ``<script>`` element: no tag or comment can begin or end in it."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def page_data(runs: Sequence[Run], comparison: dict[str, Any]) -> dict[str, Any]:
    """All that the page's script draws, JSON-ready."""
    keys = [key for run in runs for row in run.rows for key in row.values]
    floors = {key.removesuffix(FLOOR) for key in keys if key.endswith(FLOOR)}
    return {
        "columns": [asdict(item) | {"floor": item.key in floors} for item in columns_of(keys)],
        "words": {key: logged_word(key) for run in runs for key in run.curves},
        "comparison": {key: value for key, value in comparison.items() if key != "rows"},
        "runs": [_run_data(run, MAX_AUDIO // len(runs)) for run in runs],
    }


def _run_data(run: Run, audio_bytes: int) -> dict[str, Any]:
    facts = run.facts
    teacher = facts.get("teacher")
    teacher = teacher if isinstance(teacher, dict) else {"source": teacher}
    versions = facts.get("versions")
    thinned = _thin(run.progress)
    balance = balance_of(run.logged)
    notes = list(run.notes)
    if len(thinned) < len(run.progress):
        notes.append(f"{len(thinned)} of {len(run.progress)} progress grids are shown.")
    utterances = embedded(run.utterances, audio_bytes)
    if len(utterances) < len(run.utterances):
        notes.append(
            f"{len(utterances)} of {len(run.utterances)} utterances are here, the page would "
            f"grow too large; the others lie in samples/."
        )
    return {
        "label": run.label,
        "name": run.name,
        "version": run.version,
        "seed": run.seed,
        "commit": _text(facts.get("commit")),
        "teacher": _text(teacher.get("source")),
        "teacher_sha256": _text(teacher.get("sha256")),
        "wall_seconds": _real(facts.get("wall_seconds")),
        "cpu_seconds": _real(facts.get("cpu_seconds")),
        "iterations": _real(facts.get("iterations")),
        "command": _command(facts.get("command")),
        "versions": {str(key): str(value) for key, value in versions.items()}
        if isinstance(versions, dict)
        else {},
        "rows": [asdict(row) for row in run.rows],
        "curves": {key: _curve(curve) for key, curve in run.curves.items()},
        "balance": None if balance is None else asdict(balance),
        "progress": [_image(picture) for picture in thinned],
        "finals": [_image(picture) for picture in run.finals],
        "utterances": utterances,
        "walks": read_walks(run.path),
        "animations": [_image(picture) for picture in run.animations],
        "next": [asdict(step) for step in next_steps(run)],
        "config": run.config,
        "notes": notes,
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < float("inf") else None


def _command(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else _text(value)


def _curve(curve: Curve) -> dict[str, list[float]]:
    # Five significant digits are more than a chart or its readout shows.
    rounded = {
        key: [float(f"{value:.5g}") for value in values] for key, values in asdict(curve).items()
    }
    return rounded | {"x": [round(value, 1) for value in curve.x]}


def _thin(pictures: list[Picture]) -> list[Picture]:
    if len(pictures) <= MAX_PROGRESS:
        return pictures
    last = len(pictures) - 1
    return [pictures[round(index * last / (MAX_PROGRESS - 1))] for index in range(MAX_PROGRESS)]


def _image(picture: Picture) -> dict[str, Any]:
    kind = picture.path.suffix.removeprefix(".")
    content = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    return {
        "model": picture.model,
        "at": picture.at,
        "width": picture.width,
        "height": picture.height,
        "src": f"data:image/{kind};base64,{content}",
    }


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _part(name: str) -> str:
    return resources.files("kdlight.report").joinpath("web", name).read_text(encoding="utf-8")
