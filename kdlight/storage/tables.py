"""Tables that users write: CSV, TSV and JSONL, by the names of their columns."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.text import read_text

SUFFIXES = (".csv", ".tsv", ".jsonl")
Row = tuple[int, dict[str, str]]
"""Number of its line, and its values by column."""


def read_table(path: Path, known: Sequence[str], needed: Sequence[str]) -> list[Row]:
    """The rows of a manifest.

    CSV and TSV have the names of their columns in the first line (CSV may quote, TSV does not),
    JSONL has one object a line. Values that are empty or absent are left out, as are other columns.

    Args:
        path: Its suffix says which.
        known: Columns that are read.
        needed: Those that every row has to have.

    Raises:
        InputError: The file is missing, no such table, has no row, or lacks a column or a value.
    """
    require_file(path)
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise InputError(f"{path}: expected a manifest that ends in .csv, .tsv or .jsonl.")
    text = read_text(path)
    if kind == ".jsonl":
        rows = list(_objects(path, text, known))
    else:
        rows = list(_cells(path, text, "," if kind == ".csv" else "\t", known, needed))
    if not rows:
        raise InputError(f"{path}: expected a row for every audio file, found none.")
    for line, row in rows:
        for name in needed:
            if name not in row:
                raise InputError(f"{path}: line {line}: expected a value of {name}, found none.")
    return rows


def _cells(
    path: Path, text: str, delimiter: str, known: Sequence[str], needed: Sequence[str]
) -> Iterator[Row]:
    lines = (f"{line}\n" for line in text.split("\n"))
    if delimiter == ",":
        reader = csv.reader(lines, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    try:
        table = [(reader.line_num, [cell.strip() for cell in entry]) for entry in reader]
    except csv.Error:
        raise InputError(
            f"{path}: line {reader.line_num}: expected a row of CSV, found something else."
        ) from None
    table = [(line, cells) for line, cells in table if any(cells)]
    header = table[0][1] if table else list(needed)
    if not set(needed) <= set(header):
        raise InputError(
            f"{path}: expected a header with the columns {', '.join(known)}, "
            f"found {', '.join(header)}."
        )
    for line, cells in table[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {line}: expected {len(header)} columns, found {len(cells)}."
            )
        row = dict(zip(header, cells, strict=True))
        yield line, {name: row[name] for name in known if row.get(name)}


def _objects(path: Path, text: str, known: Sequence[str]) -> Iterator[Row]:
    for line, entry in enumerate(text.split("\n"), 1):
        if not entry.strip():
            continue
        try:
            row = json.loads(entry)
        except (ValueError, RecursionError):
            raise InputError(f"{path}: line {line}: expected JSON, found something else.") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}: line {line}: expected an object with the keys {', '.join(known)}."
            )
        yield line, {name: str(row[name]) for name in known if row.get(name) not in (None, "")}
