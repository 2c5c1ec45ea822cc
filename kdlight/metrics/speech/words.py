"""Word and letter errors of recognised speech, against a transcript or what was heard before."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from kdlight.errors import InputError
from kdlight.metrics.speech.packages import require


@functools.lru_cache(maxsize=1)
def _english() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})


@functools.lru_cache(maxsize=1)
def _basic() -> Any:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()


class Normalisation(NamedTuple):
    """What is done to both texts before they are compared.

    Attributes:
        about: Where it comes from, for the provenance.
        apply: The function.
    """

    about: str
    apply: Callable[[str], str]


NORMALISATIONS = {
    "english": Normalisation(
        "transformers EnglishTextNormalizer, no spelling table", lambda text: str(_english()(text))
    ),
    "basic": Normalisation("transformers BasicTextNormalizer", lambda text: str(_basic()(text))),
    "none": Normalisation("none but white space", str),
}


def normalise(text: str, normaliser: str = "english") -> str:
    """A text as it is compared, its words one space apart.

    - ``english``: Whisper's for English. Lower case; no punctuation, no fillers such as "uh",
      nothing in brackets; contractions written out; numbers as digits (Radford et al. 2022,
      arXiv:2212.04356, appendix C). Its table of British and American spellings is left out: it
      comes with a model, not with a package. What it leaves of dots that stand alone is no word.
    - ``basic``: Whisper's for all other languages. Lower case; no punctuation, nothing in brackets.
      It also parts words at combining marks, such as vowel signs of Hindi or Thai: take ``none``
      for these.
    - ``none``: The text as it stands.
    """
    words = NORMALISATIONS[normaliser].apply(text).split()
    if normaliser != "none":
        words = [word for word in words if any(sign.isalnum() for sign in word)]
    return " ".join(words)


def normaliser_of(name: str | None, language: str) -> str:
    """The normaliser that is asked for; by default that of the language.

    Raises:
        InputError: There is no such normaliser.
    """
    if name is None:
        return "english" if language == "en" else "basic"
    if name not in NORMALISATIONS:
        raise InputError(
            f"normaliser: expected one of {', '.join(NORMALISATIONS)}, found {name!r}."
        )
    return name


class WordErrors(NamedTuple):
    """Counts of an alignment of two texts, from which rates of one text or of many follow.

    Attributes:
        hits: Words that are right.
        errors: Substitutions, deletions and insertions of words.
        words: Words of the truth.
        heard: Words of the hypothesis.
        letter_errors: Substitutions, deletions and insertions of letters.
        letters: Letters of the truth; a space between words is one.
    """

    hits: int
    errors: int
    words: int
    heard: int
    letter_errors: int
    letters: int

    @property
    def wer(self) -> float:
        """Word error rate, 0 and up, may pass 1; NaN if the truth has no word."""
        return self.errors / self.words if self.words else float("nan")

    @property
    def wil(self) -> float:
        """Word information lost, 0 to 1 (Morris et al. 2004); NaN if the truth has no word."""
        if not self.words:
            return float("nan")
        return 1 - self.hits**2 / (self.words * self.heard) if self.heard else 1.0

    @property
    def cer(self) -> float:
        """Character error rate, 0 and up, may pass 1; NaN if the truth has no word."""
        return self.letter_errors / self.letters if self.letters else float("nan")


def word_errors(truth: str, hypothesis: str, normaliser: str = "english") -> WordErrors:
    """Align the words, and the letters, of a hypothesis with the truth (jiwer).

    Args:
        truth: Transcript, or what a recogniser heard in the original.
        hypothesis: What it heard in the degraded utterance.
        normaliser: What both go through first; see :func:`normalise`.

    Raises:
        InputError: The package jiwer is missing.
    """
    jiwer = require("jiwer", "jiwer", "wer")
    truth, hypothesis = normalise(truth, normaliser), normalise(hypothesis, normaliser)
    heard = len(hypothesis.split())
    if not truth:
        return WordErrors(0, heard, 0, heard, len(hypothesis), 0)
    words = jiwer.process_words(truth, hypothesis)
    letters = jiwer.process_characters(truth, hypothesis)
    return WordErrors(
        words.hits,
        words.substitutions + words.deletions + words.insertions,
        len(truth.split()),
        heard,
        letters.substitutions + letters.deletions + letters.insertions,
        len(truth),
    )
