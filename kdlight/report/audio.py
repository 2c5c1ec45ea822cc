"""What a codec made of speech: the list of utterances in a run folder, and its place in a page."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"utterance_\w+")
"""Names of the files without suffix; nothing outside the folder is ever read."""

KINDS = {"audio": (".flac", b"fLaC"), "picture": (".png", b"\x89PNG")}
"""Suffix and first bytes of the files of a version."""


@dataclass(frozen=True)
class Version:
    """An utterance as it was recorded, or as it came out of a codec.

    Attributes:
        n_q: Levels that it was decoded with; None for the original, and where there are none.
        label: What it is, where the levels do not say it.
        audio: FLAC.
        picture: Spectrogram without axes, PNG.
        figures: What was measured of it.
    """

    n_q: int | None
    label: str
    audio: Path
    picture: Path
    figures: dict[str, float]


@dataclass(frozen=True)
class Utterance:
    """An utterance with all its versions, the original first.

    Attributes:
        name: Its name in the data.
        speaker: Who says it.
        transcript: What is said; empty if that is not known.
        seconds: Length of the audio.
        sample_rate: Samples per second.
        versions: To compare.
    """

    name: str
    speaker: str
    transcript: str
    seconds: float
    sample_rate: float
    versions: list[Version]


def load_utterances(folder: Path, notes: list[str]) -> list[Utterance]:
    """The utterances of a run, as ``utterances.json`` lists them; none if there is no list.

    Args:
        folder: The run's ``samples``.
        notes: A sentence is added for what cannot be read and is left out.
    """
    path = folder / "utterances.json"
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise TypeError
    except (OSError, ValueError, TypeError, RecursionError):
        notes.append("samples/utterances.json could not be read and is left out.")
        return []
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(_utterance(folder, entry))
        except (OSError, KeyError, TypeError, ValueError):
            notes.append(f"Utterance {index + 1} of samples/utterances.json could not be read.")
    return found


def embedded(utterances: Sequence[Utterance], most: int) -> list[dict[str, Any]]:
    """Utterances with their files inside, JSON-ready, as many as fit; the first always does.

    Args:
        utterances: In the order in which they matter.
        most: Bytes of all files together.
    """
    found: list[dict[str, Any]] = []
    total = 0
    for utterance in utterances:
        files = [file for each in utterance.versions for file in (each.audio, each.picture)]
        total += sum(file.stat().st_size for file in files)
        if found and total > most:
            break
        found.append(
            {
                "name": utterance.name,
                "speaker": utterance.speaker,
                "transcript": utterance.transcript,
                "seconds": utterance.seconds,
                "sample_rate": utterance.sample_rate,
                "versions": [
                    {
                        "n_q": version.n_q,
                        "label": version.label,
                        "audio": _data_uri(version.audio, "audio/flac"),
                        "picture": _data_uri(version.picture, "image/png"),
                        "figures": version.figures,
                    }
                    for version in utterance.versions
                ],
            }
        )
    return found


def _utterance(folder: Path, entry: Mapping[str, Any]) -> Utterance:
    return Utterance(
        name=str(entry["name"]),
        speaker=str(entry["speaker"]),
        transcript=str(entry["transcript"]),
        seconds=_above_zero(entry["seconds"]),
        sample_rate=_above_zero(entry["sample_rate"]),
        versions=[_version(folder, version) for version in entry["versions"]],
    )


def _version(folder: Path, entry: Mapping[str, Any]) -> Version:
    if not NAME.fullmatch(str(entry["file"])):
        raise ValueError(entry["file"])
    files = {}
    for kind, (suffix, start) in KINDS.items():
        files[kind] = folder / f"{entry['file']}{suffix}"
        with files[kind].open("rb") as stream:
            if stream.read(len(start)) != start:
                raise ValueError(files[kind])
    figures = {str(key): float(value) for key, value in entry["figures"].items()}
    n_q = entry["n_q"]
    return Version(
        n_q=None if n_q is None else int(n_q),
        label=str(entry.get("label", "")),
        figures={key: value for key, value in figures.items() if math.isfinite(value)},
        **files,
    )


def _above_zero(value: Any) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(value)
    return number


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
