"""Files of scores and of selections: JSON, with digests of the data that they speak of."""

import hashlib
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.files import read_json, require_file, write_json
from kdlight.storage.json_text import parse_line
from kdlight.storage.text import read_lines

SCORES = "kdlight-scores-1"
SELECTION = "kdlight-selection-1"
KINDS = ("rows", "texts", "images")
MODEL = ("path", "sha256")
"""What is said of a model that scored."""
LARGEST = 1e300
ROUNDING = 1e-5


def digest_of_tokens(tokens: Tensor, lengths: Tensor) -> str:
    """SHA-256 of sequences (N, L) and their lengths (N,), whatever integers hold them."""
    digest = hashlib.sha256(str(tuple(tokens.shape)).encode())
    for part in (tokens, lengths):
        digest.update(part.long().contiguous().numpy().tobytes())
    return digest.hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """SHA-256 of texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


class ScoreWriter:
    """Writes scores row by row, and goes on where a killed one of the same data and models stopped.

    Until the end the rows lie in a file with ``.part`` behind its name.

    Args:
        path: The file, a JSON object a line, the first of which are the facts.
        facts: Of the data and the models.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.done = 0
        head = json.dumps({"format": SCORES, **facts})
        kept: list[str] = []
        if self.part.is_file():
            text = self.part.read_text(encoding="utf-8", errors="replace")
            kept = text[: text.rfind("\n") + 1].splitlines()  # the last may be cut off
        if not kept or kept[0] != head:
            kept = [head]
        self.done = len(kept) - 1
        path.parent.mkdir(parents=True, exist_ok=True)
        self.stream = self.part.open("w", encoding="utf-8")
        self.stream.writelines(f"{line}\n" for line in kept)
        self.stream.flush()

    def __enter__(self) -> "ScoreWriter":
        return self

    def add(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Write some rows."""
        self.stream.writelines(f"{json.dumps(row)}\n" for row in rows)
        self.stream.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stream.close()
        if error is None:
            self.part.replace(self.path)


def read_scores(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts of a file of scores, and its columns, (n,) float64 each.

    Raises:
        InputError: It is none, or a row is damaged.
    """
    require_file(path)
    lines = read_lines(path)
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, start=1):
        if number == 1 and SCORES not in line:
            raise InputError(f"{path}: line 1: expected scores that `kdlight score` wrote.")
        row = parse_line(line, f"{path}: line {number}")
        if not isinstance(row, dict) or (number == 1 and row.get("format") != SCORES):
            raise InputError(f"{path}: line {number}: expected scores that `kdlight score` wrote.")
        rows.append(row)
    facts, rows = dict(rows[0]) if rows else {}, rows[1:]
    models = facts.get("models")
    for name, right in (
        ("data", isinstance(facts.get("data"), str)),
        ("digest", isinstance(facts.get("digest"), str)),
        ("models", isinstance(models, dict) and all(map(_is_model, models.values()))),
    ):
        if not right:
            raise InputError(f"{path}: line 1: {name}: expected what `kdlight score` wrote.")
    count = facts.get("count")
    if type(count) is not int or count < 1 or facts.get("kind") not in KINDS:
        raise InputError(f"{path}: line 1: count, kind: expected what `kdlight score` wrote.")
    if len(rows) != count:
        raise InputError(f"{path}: expected {count} rows, found {len(rows)}.")
    for number, row in enumerate(rows, start=2):
        place = f"{path}: line {number}"
        for name, value in row.items():
            if wanted := _misfit(name, value):
                found = textwrap.shorten(repr(value), 60, placeholder="...")
                raise InputError(f"{place}: {name}: expected {wanted}, found {found}.")
        if row.keys() != rows[0].keys() or "tokens" not in row:
            raise InputError(
                f"{place}: expected tokens and what line 2 has, found {', '.join(row) or 'none'}."
            )
    columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
    return facts, {name: torch.tensor(each, dtype=torch.float64) for name, each in columns.items()}


def _is_model(said: Any) -> bool:
    """Whether a value says which model scored."""
    return isinstance(said, dict) and all(isinstance(said.get(each), str) for each in MODEL)


def _misfit(name: str, value: Any) -> str | None:
    """What a column holds, where ``value`` is nothing of the kind."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not abs(value) < LARGEST:  # nor NaN
        return "a number"
    if name.endswith("_nll") and value < -ROUNDING:
        return "nats of at least 0"
    if name == "tokens" and (value < 0 or value != int(value)):
        return "a whole number of at least 0"
    if name.endswith("_margin") and not -ROUNDING <= value <= 1 + ROUNDING:
        return "a margin of two probabilities, 0 to 1"
    return None


def write_selection(path: Path, rows: Sequence[int], data: str, how: Mapping[str, Any]) -> None:
    """Write which rows are kept.

    Args:
        path: The file, JSON.
        rows: Their numbers, in order; one that is drawn twice stands twice.
        data: Digest of the data.
        how: How they were chosen.
    """
    write_json(
        path,
        {
            "format": SELECTION,
            **how,
            "data": data,
            "count": len(rows),
            "sha256": digest_of_rows(rows),
            "rows": list(rows),
        },
    )


def is_replaceable(path: Path) -> bool:
    """Whether a place is free, or holds an earlier selection."""
    if not path.exists():
        return True
    said = read_json(path)
    return isinstance(said, dict) and said.get("format") == SELECTION


def digest_of_rows(rows: Sequence[int]) -> str:
    """SHA-256 of numbers."""
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


def read_selection(path: Path, data: str, count: int) -> Tensor:
    """The kept rows, (n,) int64.

    Args:
        path: The file.
        data: Digest of the data it is to speak of.
        count: Rows of the data.

    Raises:
        InputError: It is no selection, is damaged, or speaks of other data.
    """
    said = read_json(path)
    if not isinstance(said, dict) or said.get("format") != SELECTION:
        raise InputError(f"{path}: expected a selection that `kdlight select` wrote.")
    rows = said.get("rows")
    numbers = isinstance(rows, list) and all(type(row) is int for row in rows)
    if not numbers or not rows or said.get("sha256") != digest_of_rows(rows):
        raise InputError(f"{path}: expected rows as they were chosen, found others.")
    if said.get("data") != data or not 0 <= min(rows) <= max(rows) < count:
        raise InputError(
            f"{path}: expected a selection from these data ({data[:12]}), found one from others "
            f"({str(said.get('data'))[:12]})."
        )
    return torch.tensor(rows)
