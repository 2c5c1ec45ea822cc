"""Word errors of recognised speech, against a transcript or against what was heard before."""

import functools
from typing import Any, NamedTuple

from kdlight.metrics.speech.packages import require

NORMALISATION = "transformers EnglishTextNormalizer, no spelling table"


@functools.lru_cache(maxsize=1)
def _normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})


def normalise(text: str) -> str:
    """The one normalisation of all word errors here: Whisper's for English.

    Lower case; no punctuation, no fillers such as "uh", nothing in brackets; contractions written
    out; numbers as digits (Radford et al. 2022, arXiv:2212.04356, appendix C). Its table of British
    and American spellings is left out: it comes with a model, not with a package. What it leaves of
    dots that stand alone is no word here.
    """
    words = str(_normaliser()(text)).split()
    return " ".join(word for word in words if any(sign.isalnum() for sign in word))


class WordErrors(NamedTuple):
    """Counts of an alignment of words, from which rates of one text or of many follow.

    Attributes:
        hits: Words that are right.
        errors: Substitutions, deletions and insertions.
        words: Words of the truth.
        heard: Words of the hypothesis.
    """

    hits: int
    errors: int
    words: int
    heard: int

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


def word_errors(truth: str, hypothesis: str) -> WordErrors:
    """Align the words of a hypothesis with the truth, both normalised (jiwer).

    Args:
        truth: Transcript, or what a recogniser heard in the original.
        hypothesis: What it heard in the degraded utterance.

    Raises:
        InputError: The package jiwer is missing.
    """
    jiwer = require("jiwer", "jiwer", "wer")
    truth, hypothesis = normalise(truth), normalise(hypothesis)
    heard = len(hypothesis.split())
    if not truth:
        return WordErrors(0, heard, 0, heard)
    found = jiwer.process_words(truth, hypothesis)
    errors = found.substitutions + found.deletions + found.insertions
    return WordErrors(found.hits, errors, len(truth.split()), heard)
