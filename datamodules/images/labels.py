"""Labels of pictures from a table: a CSV with a header line, or JSON lines."""

import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.json_text import json_lines
from kdlight.storage.tables import read_cells
from kdlight.storage.text import read_lines

SUFFIXES = (".csv", ".jsonl")
_FLOAT = re.compile(r"[-+]?\d*\.\d*(e[-+]?\d+)?|nan", re.IGNORECASE)


def read_labels(path: Path, file_column: str, label_column: str) -> dict[str, str]:
    """The label of every picture that a table names.

    Args:
        path: A ``.csv`` file whose first line names its columns, or a ``.jsonl`` file with an
            object a line.
        file_column: Column of the file names.
        label_column: Column of the labels, text or whole numbers.

    Returns:
        Labels as text, by file name, in the order of the table.

    Raises:
        InputError: There is no such table, column or value, or a file is named twice.
    """
    require_file(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"labels: expected a .csv or .jsonl file, found {path}.")
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        for column in (file_column, label_column):
            if column not in row:
                raise InputError(
                    f"{path}: line {line}: expected columns {file_column} and {label_column}, "
                    f"found {', '.join(map(str, row)) or 'none'}."
                )
        name, label = row[file_column], row[label_column]
        for column, value in ((file_column, name), (label_column, label)):
            if not _is_name(value):
                found = textwrap.shorten(repr(value), 60, placeholder="...")
                raise InputError(f"{path}: line {line}: expected a {column}, found {found}.")
        # a.png and ./a.png are one file.
        place = os.path.normpath(str(name))
        if place in lines:
            raise InputError(
                f"{path}: line {line}: expected every file once, found {name} in line "
                f"{lines[place]} too."
            )
        labels[str(name)], lines[place] = str(label).strip(), line
    if not labels:
        raise InputError(f"{path}: expected a line for every picture, found none.")
    return labels


def _is_name(value: Any) -> bool:
    """Whether a value names a file or a class: text or a whole number.

    A table has only text: what it writes for a label that was lost, or for a number that is none
    of a class, would be a class of its own.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return False
    return bool(str(value).strip()) and _FLOAT.fullmatch(str(value).strip()) is None


def sorted_classes(labels: dict[str, str]) -> list[str]:
    """The names of the classes: whole numbers by size, others by the alphabet."""
    names = set(labels.values())
    whole = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if whole else 0, name))


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    header, rows = read_cells(path, ",")
    for line, cells in rows:
        yield line, dict(zip(header, cells, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, row in json_lines(read_lines(path), path):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected an object, found {str(row)[:40]!r}.")
        yield int(place.rpartition(" ")[2]), row
