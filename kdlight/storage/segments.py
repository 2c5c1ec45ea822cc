"""Parts of audio files, and the manifests that list them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.audio import AudioInfo, audio_info, read_audio, stream_audio
from kdlight.storage.tables import SUFFIXES, read_table

COLUMNS = ("audio", "start", "end", "id", "transcript")
TOLERANCE = 0.01
"""Seconds that an end may lie behind the end of its file, as times that were rounded do."""


@dataclass(frozen=True)
class Segment:
    """A file of audio, or a part of it.

    Attributes:
        path: The file.
        start: First sample, at the file's own rate.
        frames: Samples; -1 for all to the end.
    """

    path: Path
    start: int = 0
    frames: int = -1

    def info(self) -> AudioInfo:
        """Length, sample rate and channels; see :func:`~kdlight.storage.audio.audio_info`."""
        info = audio_info(self.path)
        return info._replace(frames=info.frames - self.start if self.frames < 0 else self.frames)

    def read(self, sample_rate: int | None = None, channels: int = 1) -> Tensor:
        """Samples (1 or channels, T); see :func:`~kdlight.storage.audio.read_audio`."""
        return read_audio(self.path, sample_rate, self.start, self.frames, channels)

    def stream(self, sample_rate: int, block: int) -> Iterator[Tensor]:
        """Pieces (1, t); see :func:`~kdlight.storage.audio.stream_audio`."""
        return stream_audio(self.path, sample_rate, block, self.start, self.frames)


class NamedSegment(NamedTuple):
    """A row of a manifest.

    Attributes:
        name: A path without suffix, of which there is one.
        segment: Where the audio is.
        transcript: What is said, if the manifest says it.
    """

    name: str
    segment: Segment
    transcript: str | None


def is_manifest(path: Path) -> bool:
    """Whether a path can be that of a manifest."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_segments(path: Path) -> list[NamedSegment]:
    """The segments of a manifest: CSV, TSV or JSONL with a row for each.

    ``audio`` is a path relative to the manifest's folder; ``start`` and ``end``, in seconds, may
    be absent, and are then the file's; ``id`` is its name, by default the path without suffix and
    the times (``a_1.500-3.000``); ``transcript`` may be absent.

    Raises:
        InputError: As :func:`~kdlight.storage.tables.read_table`; or a file is missing or no audio,
            times lie outside of it or in the wrong order, or two rows have one name.
    """
    found: dict[str, NamedSegment] = {}
    for line, row in read_table(path, COLUMNS, ("audio",)):
        place = f"{path}: line {line}"
        segment = _segment(path.parent / row["audio"], row, place)
        name = row.get("id") or _name(row)
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{place}: id: expected a name of a file, found {name!r}.")
        if name in found:
            raise InputError(f"{place}: expected a row of its own, found {name!r} again.")
        found[name] = NamedSegment(name, segment, row.get("transcript"))
    return list(found.values())


def _segment(audio: Path, row: dict[str, str], place: str) -> Segment:
    try:
        info = audio_info(audio)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    length = info.frames / info.sample_rate
    start = _seconds(row.get("start", "0"), "start", place)
    end = _seconds(row.get("end", repr(length)), "end", place)
    if not 0 <= start < end <= length + TOLERANCE:
        raise InputError(
            f"{place}: expected a start before an end in the {length:g} s of {audio.name}, "
            f"found {start:g} and {end:g}."
        )
    first = round(start * info.sample_rate)
    last = min(round(end * info.sample_rate), info.frames)
    if first >= last:
        raise InputError(f"{place}: expected at least a sample, found none.")
    return Segment(audio, first, last - first)


def _seconds(text: str, name: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}: {name}: expected seconds, found {text!r}.")
    return value


def _name(row: dict[str, str]) -> str:
    audio = Path(row["audio"])
    name = audio.stem if audio.is_absolute() else audio.with_suffix("").as_posix()
    if "start" not in row and "end" not in row:
        return name
    times = (row.get("start", "0"), row.get("end", "inf"))
    start, end = ("end" if time == "inf" else f"{float(time):.3f}" for time in times)
    return f"{name}_{start}-{end}"
