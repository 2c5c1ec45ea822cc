"""Manifests: a table of audio files with what is said and who says it."""

import json
from pathlib import Path

from datamodules.speech.recordings import Recording
from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.text import read_text

COLUMNS = ("audio", "transcript", "speaker")
SUFFIXES = (".tsv", ".jsonl")


def read_manifest(path: Path) -> list[Recording]:
    """Recordings of a table with the columns audio, transcript and speaker.

    A TSV file has the names of its columns in the first line, a JSONL file one object a line.
    ``transcript`` may be absent. Paths are relative to the manifest's folder. Other columns are
    ignored.

    Raises:
        InputError: The file is missing, no such table, lacks a column or a value, or names a file
            twice.
    """
    require_file(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a manifest that ends in .tsv or .jsonl.")
    text = read_text(path)
    rows = _tsv(path, text) if path.suffix.lower() == ".tsv" else _jsonl(path, text)
    if not rows:
        raise InputError(f"{path}: expected a row for every audio file, found none.")
    recordings: dict[str, Recording] = {}
    for line, row in rows:
        for name in ("audio", "speaker"):
            if not row.get(name):
                raise InputError(f"{path}: line {line}: expected a value of {name}, found none.")
        name = row["audio"]
        if name in recordings:
            raise InputError(f"{path}: line {line}: expected another file, found {name} again.")
        recordings[name] = Recording(
            path.parent / name, name, row.get("transcript", ""), row["speaker"]
        )
    return list(recordings.values())


def _tsv(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    table = [
        (line, [cell.strip() for cell in entry.split("\t")])
        for line, entry in enumerate(text.split("\n"), 1)
        if entry.strip()
    ]
    if not table:
        return []
    header = table[0][1]
    for name in ("audio", "speaker"):
        if name not in header:
            raise InputError(
                f"{path}: expected a header with the columns {', '.join(COLUMNS)}, "
                f"found {', '.join(header)}."
            )
    for line, row in table[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{path}: line {line}: expected {len(header)} columns, found {len(row)}."
            )
    return [(line, dict(zip(header, row, strict=True))) for line, row in table[1:]]


def _jsonl(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    rows = []
    for line, entry in enumerate(text.split("\n"), 1):
        if not entry.strip():
            continue
        try:
            row = json.loads(entry)
        except json.JSONDecodeError:
            raise InputError(f"{path}: line {line}: expected JSON, found something else.") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}: line {line}: expected an object with the keys {', '.join(COLUMNS)}."
            )
        rows.append((line, {key: str(row[key]) for key in COLUMNS if row.get(key) is not None}))
    return rows
