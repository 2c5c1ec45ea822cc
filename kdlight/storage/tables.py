"""Tables that users write: CSV, TSV and JSONL, by the names of their columns."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdlight.core.hints import called
from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.json_text import parse_line
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
    if kind == ".jsonl":
        rows = list(_objects(path, read_text(path), known))
    else:
        rows = list(_cells(path, "," if kind == ".csv" else "\t", known, needed))
    if not rows:
        raise InputError(f"{path}: expected a row for every file, found none.")
    for line, row in rows:
        for name in needed:
            if name not in row:
                raise InputError(f"{path}: line {line}: expected a value of {name}, found none.")
    return rows


def read_cells(path: Path, delimiter: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table, and its rows with the numbers of their lines; empty rows left out.

    Args:
        path: The file.
        delimiter: A comma, beside which cells may be quoted, or a tab.

    Raises:
        InputError: The file is missing or no such table, a column is there twice, or a row has
            another number of cells than the header.
    """
    lines = (f"{line}\n" for line in read_text(path).split("\n"))
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
    header = table[0][1] if table else []
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise InputError(f"{path}: line 1: expected every column once, found {twice[0]!r} twice.")
    for line, cells in table[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {line}: expected {len(header)} columns, found {len(cells)}."
            )
    return header, table[1:]


def _cells(
    path: Path, delimiter: str, known: Sequence[str], needed: Sequence[str]
) -> Iterator[Row]:
    header, table = read_cells(path, delimiter)
    if header and not set(needed) <= set(header):
        raise InputError(
            f"{path}: expected a header with the columns {', '.join(known)}, "
            f"found {', '.join(header)}."
        )
    for line, cells in table:
        row = dict(zip(header, cells, strict=True))
        yield line, {name: row[name] for name in known if row.get(name)}


def _objects(path: Path, text: str, known: Sequence[str]) -> Iterator[Row]:
    for line, entry in enumerate(text.split("\n"), 1):
        if not entry.strip():
            continue
        row = parse_line(entry, f"{path}: line {line}")
        if not isinstance(row, dict):
            raise InputError(
                f"{path}: line {line}: expected an object with the keys {', '.join(known)}."
            )
        for name in known:
            if isinstance(row.get(name), (list, dict, bool)):
                raise InputError(
                    f"{path}: line {line}: {name}: expected text or a number, found "
                    f"{called(row[name])}."
                )
        yield line, {name: str(row[name]) for name in known if row.get(name) not in (None, "")}
