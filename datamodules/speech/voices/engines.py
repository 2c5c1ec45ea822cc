"""Text to speech: what an engine's voice offers, and speech that is made once and kept on disk."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.speech.recordings import Recording
from kdlight.storage.audio import write_audio
from kdlight.storage.files import read_json, write_json

WORDS = re.compile(r"\w+(?:['\u2019]\w+)*")
"""A word of a text, without the marks around it."""


class Speech(NamedTuple):
    """What an engine makes of a text.

    Attributes:
        audio: (1, T) float32.
        sample_rate: Hz.
        words: Second at which each word starts, and the word; empty if the engine does not tell.
    """

    audio: Tensor
    sample_rate: int
    words: list[tuple[float, str]]


class Voice(Protocol):
    """A speaker of a text-to-speech engine."""

    @property
    def speaker(self) -> str:
        """Unique name."""
        ...

    def identity(self) -> dict[str, str | int | float]:
        """All that the sound depends on besides the text: engine, version, settings."""
        ...

    def speak(self, text: str) -> Speech:
        """Say ``text``."""
        ...


def spread_words(parts: Sequence[tuple[float, list[str]]], end: float) -> list[tuple[float, str]]:
    """Words and when they start; the words of one part share its time by their letters.

    Args:
        parts: Second at which some words start, and the words.
        end: Second at which the last ones end.
    """
    stops = [start for start, _ in parts[1:]] + [end]
    found = []
    for (start, words), stop in zip(parts, stops, strict=False):  # no part, but the end
        passed, letters = 0, sum(map(len, words))
        for word in words:
            found.append((start + (stop - start) * passed / letters, word))
            passed += len(word)
    return found


def default_cache() -> Path:
    """``kdlight/speech`` in the user's cache folder (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kdlight" / "speech"


def cached_at(text: str, voice: Voice, cache: Path) -> Path:
    """Where a sentence by a voice is kept; its words and their times are in a JSON file beside."""
    key = json.dumps({**voice.identity(), "text": text}, sort_keys=True)
    return cache / voice.speaker / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.flac"


def speak_all(
    pairs: Sequence[tuple[str, Voice]], cache: Path, show: bool = True
) -> list[Recording]:
    """Every text in its voice, made unless the cache has it; a run that was stopped goes on.

    Args:
        pairs: Texts and who says them.
        cache: Folder for the audio.
        show: Whether to show a progress bar.

    Raises:
        InputError: An engine cannot say a text.
    """
    recordings = []
    for text, voice in tqdm(pairs, desc="Speaking", delay=2, disable=not show, leave=False):
        path = cached_at(text, voice, cache)
        notes = path.with_suffix(".json")
        # The notes are written last: where they are, the audio is whole.
        if not notes.is_file() or not path.is_file():
            speech = voice.speak(text)
            write_audio(path, speech.audio, speech.sample_rate)
            write_json(notes, {**voice.identity(), "text": text, "words": speech.words})
        recordings.append(Recording(path, f"{voice.speaker}/{path.name}", text, voice.speaker))
    return recordings


def word_times(path: Path) -> list[tuple[float, str]]:
    """Words of a cached file, each with the second at which it starts; empty if not known."""
    return [
        (float(second), str(word)) for second, word in read_json(path.with_suffix(".json"))["words"]
    ]
