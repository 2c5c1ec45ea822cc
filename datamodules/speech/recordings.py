"""Checking audio files before training: what can be used, what cannot, said once."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.order import positive
from datamodules.speech.utterances import Utterance
from kdlight.errors import InputError
from kdlight.storage.audio import (
    UNREAD,
    AudioInfo,
    ScaleError,
    audio_info,
    read_audio,
    resampled_length,
)

T = TypeVar("T")
SILENCE = 1e-4
"""Largest sample of a silent file, -80 dB: dither stays below it."""
NAMED = 5
"""How many files of a kind the message names."""


@dataclass(frozen=True)
class Recording:
    """A file that a data set names.

    Attributes:
        path: The file.
        name: Its name in messages and batches.
        transcript: What is said.
        speaker: Who says it.
    """

    path: Path
    name: str
    transcript: str = ""
    speaker: str = ""


@dataclass
class Findings:
    """Names of files by what is wrong with them, or unusual.

    Attributes:
        left_out: Files that cannot be used.
        mixed: Files whose channels are averaged.
    """

    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    mixed: list[str] = field(default_factory=list)

    def sentence(self, total: int) -> str:
        """Counts and first names; empty if nothing was found."""
        parts = [
            f"{len(names)} {reason} ({_first(names)})"
            for reason, names in sorted(self.left_out.items())
        ]
        sentences = []
        if parts:
            count = sum(len(names) for names in self.left_out.values())
            sentences.append(f"{count} of {total} files are left out: {', '.join(parts)}")
        if self.mixed:
            sentences.append(
                f"{len(self.mixed)} of {total} files have several channels, which are averaged "
                f"({_first(self.mixed)})"
            )
        return "; ".join(sentences)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def usable(
    recordings: Sequence[Recording],
    sample_rate: int,
    hop_length: int,
    cache_mb: int,
    source: str,
    show: bool = True,
) -> list[Utterance]:
    """The recordings that can be trained on, in order; a warning lists the others, once.

    As many as fit into ``cache_mb`` are decoded now and kept. Of each other file the start, the
    middle and the end are read, so that a file that is cut short is found, though not every one
    that is damaged inside.

    Args:
        recordings: Files.
        sample_rate: Rate to resample to, Hz.
        hop_length: A file must have at least so many samples at ``sample_rate``.
        cache_mb: Memory for decoded audio, MiB.
        source: What the data are, for messages.
        show: Whether to show a progress bar.

    Raises:
        InputError: None can be used, or one is in the scale of integers: it says that of itself
            alone, but nothing good of the others.
    """
    budget = positive("cache_mb", cache_mb, 0) * 2**20 // 4
    cached: set[int] = set()

    def check(index: int) -> Utterance | str:
        return _check(recordings[index], infos[index], sample_rate, hop_length, index in cached)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = [recording.path for recording in recordings]
        infos = _all(pool.map(_info, paths), f"Listing {source}", len(paths), show)
        for index, info in enumerate(infos):
            if info is not None and (length := resampled_length(info, sample_rate)) <= budget:
                budget -= length
                cached.add(index)
        results = _all(pool.map(check, range(len(paths))), f"Reading {source}", len(paths), show)

    findings = Findings()
    utterances = []
    for recording, info, result in zip(recordings, infos, results, strict=True):
        if isinstance(result, str):
            findings.left_out[result].append(recording.name)
            continue
        utterances.append(result)
        if info is not None and info.channels > 1:
            findings.mixed.append(recording.name)
    message = findings.sentence(len(recordings))
    if not utterances:
        raise InputError(f"{source}: expected audio that can be used, found none: {message}.")
    if message:
        rank_zero_warn(f"{source}: {message}.")
    return utterances


def _all(results: Iterable[T], text: str, total: int, show: bool) -> list[T]:
    """The results, behind a bar if they take longer than two seconds."""
    return list(tqdm(results, text, total, leave=False, delay=2, disable=not show))


def _info(path: Path) -> AudioInfo | None:
    try:
        return audio_info(path)
    except InputError:
        return None


def _check(
    recording: Recording, info: AudioInfo | None, sample_rate: int, hop_length: int, cache: bool
) -> Utterance | str:
    """The utterance of a file, or why it cannot be used."""
    if not recording.path.is_file():
        return "missing"
    if info is None:
        unread = recording.path.suffix.lower() in UNREAD
        return "in a format that libsndfile does not read" if unread else "damaged"
    length = resampled_length(info, sample_rate)
    if length < hop_length:
        return f"shorter than {hop_length} samples"
    utterance = Utterance(
        recording.name, recording.path, length, sample_rate, recording.transcript, recording.speaker
    )
    try:
        audio = read_audio(recording.path, sample_rate) if cache else None
        pieces = [audio] if audio is not None else _probes(recording.path, info)
        if all(_peak(piece) < SILENCE for piece in pieces) and (
            cache or _peak(read_audio(recording.path)) < SILENCE
        ):
            return "silent"
    except ScaleError:
        raise
    except InputError as error:
        return "not finite" if str(error).endswith("a NaN or an infinity.") else "damaged"
    return utterance if audio is None else replace(utterance, source=audio)


def _probes(path: Path, info: AudioInfo) -> list[Tensor]:
    """A second from the start, the middle and the end of a file."""
    second = min(info.sample_rate, info.frames)
    starts = {0, (info.frames - second) // 2, info.frames - second}
    return [read_audio(path, None, start, second) for start in sorted(starts)]


def _peak(audio: Tensor) -> float:
    return float(audio.abs().max())
