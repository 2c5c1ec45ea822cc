"""Manifests: a table of audio files with what is said and who says it."""

from pathlib import Path

from datamodules.speech.recordings import Recording
from kdlight.errors import InputError
from kdlight.storage.tables import read_table

COLUMNS = ("audio", "transcript", "speaker")
PARTS = ("start", "end")


def read_manifest(path: Path) -> list[Recording]:
    """Recordings of a table with the columns audio, transcript and speaker.

    A CSV or TSV file has the names of its columns in the first line, a JSONL file one object a
    line. ``transcript`` may be absent. Paths are relative to the manifest's folder. Other columns
    are ignored, but for the ``start`` and ``end`` of parts of files, which are refused.

    Raises:
        InputError: As :func:`~kdlight.storage.tables.read_table`, or a file is named twice
            or in part.
    """
    recordings: dict[str, Recording] = {}
    for line, row in read_table(path, (*COLUMNS, *PARTS), ("audio", "speaker")):
        name = row["audio"]
        if part := [column for column in PARTS if column in row]:
            raise InputError(
                f"{path}: line {line}: {part[0]}: expected whole files, which are what is trained "
                "on, found a part of one."
            )
        if name in recordings:
            raise InputError(f"{path}: line {line}: expected another file, found {name} again.")
        recordings[name] = Recording(
            path.parent / name, name, row.get("transcript", ""), row["speaker"]
        )
    return list(recordings.values())
