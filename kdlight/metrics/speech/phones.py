"""Phones of real speech by forced alignment with CMU PocketSphinx: labels that no teacher made."""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdlight.errors import InputError
from kdlight.metrics.speech.packages import require
from kdlight.metrics.speech.recognisers import RATE

SILENCE = "SIL"
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH"),
    *("T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PHONES = (SILENCE, *VOWELS, *CONSONANTS)
"""ARPAbet without stress, as PocketSphinx's dictionary has it; noises count as silence."""
NUMBERS = {name: number for number, name in enumerate(PHONES)}

SOUNDS = (
    *("AE", "B", "K", "D", "EH", "F", "G", "HH", "IH", "JH", "K", "L", "M"),
    *("N", "AA", "P", "K", "R", "S", "T", "AH", "V", "W", "Z", "Y", "Z"),
)
LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", SOUNDS, strict=True))
"""A crude pronunciation of words that the dictionary lacks: the others still find their place."""


MARGIN = 20
"""Hundredths of a second of silence before and after: without, alignment often finds no way."""


class Span(NamedTuple):
    """A word or a phone in time.

    Attributes:
        name: Word in lower case, or phone of :data:`PHONES`.
        start: Begin in seconds.
        end: End in seconds.
    """

    name: str
    start: float
    end: float


class ForcedAlignment(NamedTuple):
    """What was said when.

    Attributes:
        words: In order, without silence.
        phones: In order, from the start to the end.
        guessed: Where words lie that the dictionary lacks: their phones are not to be trusted.
    """

    words: list[Span]
    phones: list[Span]
    guessed: list[Span]

    def labels(self, frames: int, hop: float) -> Tensor:
        """Phone in the middle of every frame of ``hop`` seconds, (frames,) int64.

        -1 stands outside, and in words whose phones were guessed.
        """
        middle = (torch.arange(frames, dtype=torch.float64) + 0.5) * hop
        labels = torch.full((frames,), -1)
        for name, start, end in self.phones:
            labels[(middle >= start) & (middle < end)] = NUMBERS[name]
        for _, start, end in self.guessed:
            labels[(middle >= start) & (middle < end)] = -1
        return labels


def plain_words(text: str) -> list[str]:
    """Words of letters and apostrophes in lower case, as pronouncing dictionaries have them."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("\u2019", "'"))


class PhoneAligner:
    """Aligns English speech with its transcript.

    Raises:
        InputError: The package pocketsphinx is missing.
    """

    def __init__(self) -> None:
        self._module: Any = require("pocketsphinx", "pocketsphinx", "forced alignment")

    def __call__(self, audio: Tensor, sample_rate: int, text: str) -> ForcedAlignment | None:
        """Words and phones of one utterance.

        Args:
            audio: (T,) at 16 kHz.
            sample_rate: Of the audio, Hz.
            text: What is said.

        Returns:
            None where the transcript is empty, has digits, or does not fit the audio.

        Raises:
            InputError: The audio is not one channel at 16 kHz.
        """
        if audio.ndim != 1 or sample_rate != RATE:
            raise InputError(
                f"forced alignment: expected audio (T,) at {RATE} Hz, "
                f"found {tuple(audio.shape)} at {sample_rate} Hz."
            )
        # A decoder adapts to what it has heard; a new one makes utterances independent.
        decoder = self._module.Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")
        words = plain_words(text)
        if not words or any(character.isdigit() for character in text):
            return None
        guessed = {word for word in words if decoder.lookup_word(word) is None}
        for word in guessed:
            sounds = " ".join(LETTERS[letter] for letter in word if letter in LETTERS)
            decoder.add_word(word, sounds, True)
        margin = MARGIN * RATE // 100
        padded = pad(audio.detach().cpu().float().clamp(-1, 1), (margin, margin))
        samples = (padded * 32767).numpy().astype("int16")
        end = len(audio) / RATE

        def span(name: str, first: int, stop: int) -> Span:
            seconds = [(frame - MARGIN) / 100 for frame in (first, stop)]
            return Span(name, *(min(max(0.0, second), end) for second in seconds))

        try:
            decoder.set_align_text(" ".join(words))
            _decode(decoder, samples.tobytes())
            spoken = [
                span(_plain(each.word), each.start_frame, each.end_frame + 1)
                for each in decoder.seg() or ()
                if not each.word.startswith("<") and not each.word.startswith("[")
            ]
            decoder.set_alignment()
            _decode(decoder, samples.tobytes())
            phones = [
                span(
                    phone.name if phone.name in NUMBERS else SILENCE,
                    phone.start,
                    phone.start + phone.duration,
                )
                for word in decoder.get_alignment() or ()
                for phone in word
            ]
        except RuntimeError:
            return None
        if not spoken or not phones:
            return None
        return ForcedAlignment(spoken, phones, [word for word in spoken if word.name in guessed])


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, no_search=False, full_utt=True)
    decoder.end_utt()


def _plain(word: str) -> str:
    """A word without the number of its pronunciation: ``every(2)``."""
    return word.partition("(")[0]
