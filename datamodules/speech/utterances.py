"""Utterances: what a data set of speech consists of, their split by speaker, and reading a part."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchaudio.functional import resample

from kdlight.errors import InputError
from kdlight.storage.audio import audio_info, read_audio

FILTER_MARGIN = 8
"""Samples of the slower rate that hold half of torchaudio's resampling filter (6 zero crossings
of a cutoff at 0.99 of the Nyquist frequency), and a little more."""


@dataclass(frozen=True, eq=False)
class Utterance:
    """One recording.

    Attributes:
        name: Path or another name, unique in its data set.
        source: The file, or the samples (1, T) at ``sample_rate``.
        samples: Length T at ``sample_rate``.
        sample_rate: Rate that :meth:`read` resamples to, Hz.
        transcript: What is said; empty if that is not known.
        speaker: Who says it.
        phones: Phone of every sample step, (T / ``phone_step``,) int64, where they are known.
        phone_step: Samples of one entry of ``phones``.
        phone_ends: Entry of ``phones`` behind the last of every phone, (L,) int64, where they are
            known; equal neighbours are two phones.
        f0: Fundamental frequency of every entry of ``phones``, Hz, where it is known.
        words: Second at which each word starts, and the word, where they are known.
        syllables: Seconds at which each syllable starts and ends, where they are known.
        nuclei: The same of each syllable's vowel.
    """

    name: str
    source: Path | Tensor
    samples: int
    sample_rate: int
    transcript: str = ""
    speaker: str = ""
    phones: Tensor | None = None
    phone_step: int = 1
    phone_ends: Tensor | None = None
    f0: Tensor | None = None
    words: tuple[tuple[float, str], ...] = ()
    syllables: tuple[tuple[float, float], ...] = ()
    nuclei: tuple[tuple[float, float], ...] = ()

    def read(self, start: int = 0, samples: int | None = None) -> Tensor:
        """Samples ``start`` to ``start + samples`` (or the end), (1, n) float32.

        Raises:
            InputError: As :func:`kdlight.storage.audio.read_audio`.
        """
        stop = self.samples if samples is None else min(start + samples, self.samples)
        if isinstance(self.source, Tensor):
            return self.source[:, start:stop]
        return read_part(self.source, self.sample_rate, start, stop)

    def phone_labels(self, hop_length: int, start: int = 0, frames: int | None = None) -> Tensor:
        """Phone in the middle of every frame, (F,) int64; 0 (silence) behind the end.

        Args:
            hop_length: Samples of a frame.
            start: First sample of the first frame.
            frames: Number of frames; as many as start before the end if None.

        Raises:
            InputError: The phones are not known.
        """
        if self.phones is None:
            raise InputError(f"{self.name}: expected an utterance with known phones, found none.")
        if frames is None:
            frames = -(-(self.samples - start) // hop_length)
        middle = start + torch.arange(frames) * hop_length + hop_length // 2
        index = middle // self.phone_step
        labels = self.phones[index.clamp(max=len(self.phones) - 1)]
        return labels.masked_fill(index >= len(self.phones), 0)


def read_part(path: Path, sample_rate: int, start: int, stop: int) -> Tensor:
    """Samples ``start`` to ``stop`` at ``sample_rate``, (1, stop - start), reading no more.

    Equal, but for rounding, to the same part of the whole file resampled.

    Raises:
        InputError: As :func:`kdlight.storage.audio.read_audio`.
    """
    info = audio_info(path)
    if info.sample_rate == sample_rate:
        return read_audio(path, None, start, stop - start)
    # The read starts where a sample of both rates falls together, with the filter's width in front.
    unit = info.sample_rate // math.gcd(info.sample_rate, sample_rate)
    margin = FILTER_MARGIN * -(-info.sample_rate // min(info.sample_rate, sample_rate))
    first = max(0, start * info.sample_rate // sample_rate - margin) // unit * unit
    last = min(info.frames, -(-stop * info.sample_rate // sample_rate) + margin)
    part: Tensor = resample(
        read_audio(path, None, first, last - first), info.sample_rate, sample_rate
    )
    skip = start - first * sample_rate // info.sample_rate
    return part[:, skip : skip + stop - start]


class SpeechSplits(NamedTuple):
    """The parts of a data set; no speaker is in both."""

    training: list[Utterance]
    heldout: list[Utterance]


def split_speakers(
    utterances: Sequence[Utterance], heldout: int | Sequence[str | int], source: str
) -> SpeechSplits:
    """Hold out all utterances of some speakers.

    A number takes the speakers whose names have the smallest SHA-256: a choice that looks random,
    depends on no seed, and hardly changes when speakers are added.

    Args:
        utterances: All utterances.
        heldout: How many speakers to hold out, or which.
        source: What the data are, for messages.

    Raises:
        InputError: A speaker does not exist, or none is left for training.
    """
    speakers = sorted({utterance.speaker for utterance in utterances}, key=_rank)
    if isinstance(heldout, int):
        if heldout < 0:
            raise InputError(f"heldout: expected at least 0 speakers, found {heldout}.")
        chosen = set(speakers[:heldout])
        wanted = heldout
    else:
        chosen = {str(name) for name in heldout}  # YAML reads 1034 as a number
        wanted = len(chosen)
        if missing := sorted(chosen - set(speakers)):
            raise InputError(
                f"{source}: heldout: expected speakers of the data "
                f"({', '.join(sorted(speakers)[:5])}, ...), found {missing[0]!r}."
            )
    if wanted >= len(speakers):
        raise InputError(
            f"{source}: expected more than the {wanted} held-out speakers, "
            f"found {len(speakers)} in all."
        )
    training = [utterance for utterance in utterances if utterance.speaker not in chosen]
    held = [utterance for utterance in utterances if utterance.speaker in chosen]
    return SpeechSplits(training, in_turns(held))


def in_turns(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The first utterance of every speaker, then the second of each, and so on.

    So a validation that is cut short hears as many speakers as it can.
    """
    turns: dict[str, int] = {}
    keyed = []
    for position, utterance in enumerate(utterances):
        turn = turns.get(utterance.speaker, 0)
        turns[utterance.speaker] = turn + 1
        keyed.append((turn, position))
    return [utterances[position] for _, position in sorted(keyed)]


def _rank(speaker: str) -> str:
    return hashlib.sha256(speaker.encode()).hexdigest()
