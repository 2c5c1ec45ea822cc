"""Labels of pictures from a table: a CSV with a header line, or JSON lines."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlight.errors import InputError
from kdlight.storage.files import require_file

SUFFIXES = (".csv", ".jsonl")


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
    try:
        for line, row in rows:
            for column in (file_column, label_column):
                if column not in row:
                    raise InputError(
                        f"{path}, line {line}: expected columns {file_column} and {label_column}, "
                        f"found {', '.join(map(str, row)) or 'none'}."
                    )
            name, label = row[file_column], row[label_column]
            for column, value in ((file_column, name), (label_column, label)):
                if not isinstance(value, (str, int)) or not str(value).strip():
                    raise InputError(f"{path}, line {line}: expected a {column}, found {value!r}.")
            if name in lines:
                raise InputError(
                    f"{path}, line {line}: expected every file once, found {name} in line "
                    f"{lines[name]} too."
                )
            labels[str(name)], lines[name] = str(label).strip(), line
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: expected text in UTF-8, found something else.") from None
    if not labels:
        raise InputError(f"{path}: expected a line for every picture, found none.")
    return labels


def sorted_classes(labels: dict[str, str]) -> list[str]:
    """The names of the classes: whole numbers by size, others by the alphabet."""
    names = set(labels.values())
    whole = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if whole else 0, name))


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Spreadsheets put a mark before the first column.
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            yield reader.line_num, row


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {line}: expected an object, found {text[:40]!r}.")
            yield line, row
