"""Samples of tokens in a run's folder, as the report shows them."""

import json
from pathlib import Path
from typing import Any

FILE = Path("samples", "tokens.json")
"""Where a run keeps them: for each way of sampling, pieces of text and the calls that gave them."""


def read_walks(folder: Path) -> list[dict[str, Any]]:
    """The samples in a run's folder; none if there is none, or another file.

    Whatever does not have its form is left out: it would not be drawn.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return []
    return [walk for walk in found if _is_walk(walk)] if isinstance(found, list) else []


def _is_walk(walk: Any) -> bool:
    if not (isinstance(walk, dict) and isinstance(walk.get("rows"), list)):
        return False
    numbers = all(isinstance(walk.get(key), (int, float)) for key in ("steps", "nfe"))
    texts = all(isinstance(walk.get(key), str) for key in ("model", "algorithm"))
    return numbers and texts and all(map(_is_row, walk["rows"]))


def _is_row(row: Any) -> bool:
    if not (isinstance(row, dict) and {"pieces", "revealed_at"} <= row.keys()):
        return False
    pieces, order = row["pieces"], row["revealed_at"]
    return (
        isinstance(pieces, list)
        and isinstance(order, list)
        and len(pieces) == len(order)
        and all(isinstance(piece, str) for piece in pieces)
        and all(isinstance(call, int) for call in order)
    )
