"""Relative paths in settings, made to hold from any folder."""

from pathlib import Path
from typing import Any

OURS = ("class_path", "name", "runs_dir", "default_root_dir")
"""Keys that name no input: classes, bundled parts, and where a run writes, which is here."""


def from_anywhere(value: Any, key: str = "") -> Any:
    """Settings in which a path below the working directory is absolute.

    A path is what is called ``..._dir``, and a text with a slash, a suffix or a key that says so
    where a file or folder of that name is there: `label` and `digits` are none, whatever lies here.

    Args:
        value: Settings: mappings, lists and plain values.
        key: What ``value`` lies under.
    """
    if isinstance(value, dict):
        return {name: from_anywhere(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [from_anywhere(inner, key) for inner in value]
    if not isinstance(value, str) or not value or key in OURS:
        return value
    path = Path(value)
    may_be = "/" in value or path.suffix or "path" in key
    if key.endswith("_dir") or (may_be and _is_there(path)):
        return str(path.absolute())
    return value


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return False
