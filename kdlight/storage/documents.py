"""Texts that users have: folders, plain files, JSON lines, tables; each text with its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kdlight.core.hints import called
from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.folders import files_below
from kdlight.storage.json_text import json_lines
from kdlight.storage.tables import read_table
from kdlight.storage.text import read_lines, read_text

PLAIN = (".txt", ".md", ".rst", ".text")
"""Files of a folder that are texts."""
TABLES = (".jsonl", ".csv", ".tsv")
FILE_COLUMN = "file"
"""Column of a manifest that names a text file, where there is no text itself."""


class Document(NamedTuple):
    """A text.

    Attributes:
        text: The text, not empty.
        place: File, and line where it holds several, for messages.
    """

    text: str
    place: str


def read_documents(path: Path, field: str = "text", lines: bool = False) -> list[Document]:
    """The texts of a file or folder, in an order that depends on names alone.

    A folder gives its ``.txt``, ``.md``, ``.rst`` and ``.text`` files, those of folders below it
    included, and its ``.jsonl`` files. A ``.jsonl`` has an object a line with the text under
    ``field``; a ``.csv`` or ``.tsv`` a column of that name. A manifest is such a table with a
    column ``file`` instead: names of text files, relative to its own folder. Any other file is
    one text.

    Args:
        path: The file or folder.
        field: Name of the text in tables.
        lines: Whether each line of a plain file is a text of its own.

    Raises:
        InputError: There is no such file, no UTF-8, no text, or a row without one.
    """
    if path.is_dir():
        kinds = (*PLAIN, ".jsonl")
        files = files_below(path, kinds)
        if not files:
            raise InputError(f"{path}: expected files that end in {', '.join(kinds)}, found none.")
    else:
        require_file(path)
        files = [path]
    found = [each for file in files for each in _of_file(file, field, lines) if each.text]
    if not found:
        raise InputError(f"{path}: expected text, found none.")
    return found


def _of_file(path: Path, field: str, lines: bool) -> Iterator[Document]:
    kind = path.suffix.lower()
    if kind == ".jsonl":
        yield from _json_lines(path, field)
    elif kind in TABLES:
        for line, row in read_table(path, (field, FILE_COLUMN), ()):
            yield _of_row(path, f"{path}: line {line}", row.get(field), row.get(FILE_COLUMN), field)
    elif lines:
        for number, text in enumerate(read_lines(path), 1):
            yield Document(text, f"{path}: line {number}")
    else:
        yield Document(read_text(path), str(path))


def _json_lines(path: Path, field: str) -> Iterator[Document]:
    for place, row in json_lines(read_lines(path), path):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected an object with a {field!r}, found another value.")
        for name in (field, FILE_COLUMN):
            if name in row and not isinstance(row[name], str):
                raise InputError(f"{place}: {name}: expected text, found {called(row[name])}.")
        yield _of_row(path, place, row.get(field), row.get(FILE_COLUMN), field)


def _of_row(path: Path, place: str, text: str | None, file: str | None, field: str) -> Document:
    if text is not None:
        return Document(text, place)
    if file is None:
        raise InputError(f"{place}: expected a {field!r} or a {FILE_COLUMN!r}.")
    return Document(read_text(path.parent / file), str(path.parent / file))
