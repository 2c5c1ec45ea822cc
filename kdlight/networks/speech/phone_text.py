"""Text, its words written as phones (``hh-ah-l-ow``) or as usual, as numbers for a synthesiser."""

import re
from collections.abc import Container, Sequence
from itertools import groupby

from kdlight.errors import InputError
from kdlight.networks.speech.spelling import spelled

PHONES = (
    *("SIL", "IY", "IH", "EH", "AE", "AH", "AA", "AO", "UH", "UW", "ER", "EY", "AY", "OW", "AW"),
    *("OY", "W", "Y", "R", "L", "M", "N", "NG", "S", "Z", "SH", "ZH", "F", "V", "TH", "DH", "HH"),
    *("P", "B", "T", "D", "K", "G"),
)
"""ARPAbet symbols in the order of the synthetic speech; the first is silence."""

TOKEN = r"[.!?]+|[,;:]+|[^\s.!?,;:]+"
"""The end of a sentence, a pause, or a word."""
LONGEST = 36
"""Phones of a piece that is spoken in one breath, about as many as training sentences have."""


def read_phones(text: str, names: Sequence[str], longest: int = LONGEST) -> list[list[int]]:
    """Pieces of a text as phone numbers, each between two silences.

    A piece ends with a sentence or, between words, where it would grow too long; commas and the
    like are pauses. A phone of the list ``names`` has its place there plus one; 0 is padding.

    Unless all words are rows of phones, those that are not are English as it is spelled, which
    the package piper-tts turns into phones.

    Args:
        text: Words, each a row of phones joined by hyphens, in small or capital letters, or
            spelled.
        names: Phones that are known; the first is silence.
        longest: Most phones of a piece, unless a single word has more.

    Raises:
        InputError: There is no word, or a word holds something that is no phone.
    """
    numbers = {name.lower(): number + 1 for number, name in enumerate(names)}
    pieces: list[list[int]] = [[]]
    for token in re.findall(TOKEN, _as_phones(text, numbers).lower()):
        if token[0] in ".!?":
            pieces.append([])
        elif token[0] in ",;:":
            pieces[-1] += [1] if pieces[-1] else []
        else:
            word = [_number(phone, token, numbers) for phone in token.split("-")]
            if pieces[-1] and len(pieces[-1]) + len(word) > longest:
                pieces.append([])
            pieces[-1] += word
    spoken = [_trimmed(piece) for piece in pieces if any(number > 1 for number in piece)]
    if not spoken:
        raise InputError(
            f"text: expected words of phones such as hh-ah-l-ow, found {text.strip()[:40]!r}."
        )
    return [[1, *piece, 1] for piece in spoken]


def _as_phones(text: str, numbers: Container[str]) -> str:
    """The text with what is no row of phones spelled out, neighbours together."""
    words = [word for word in re.findall(TOKEN, text.lower()) if word[0] not in ".!?,;:"]
    if all(part in numbers for word in words for part in word.split("-")):
        return text
    parts: list[str] = []
    for usual, tokens in groupby(text.split(), lambda token: not _is_meant(token, numbers)):
        together = " ".join(tokens)
        parts.append(spelled(together) if usual else together)
    return " ".join(parts)


def _is_meant(token: str, numbers: Container[str]) -> bool:
    """Whether a word was meant as phones: some are, and the others no longer than phones are."""
    parts = token.lower().strip(".!?,;:").split("-")
    known = [part in numbers or len(part) <= 3 for part in parts]
    return len(parts) > 1 and all(known) and any(part in numbers for part in parts)


def _trimmed(piece: list[int]) -> list[int]:
    """Without silence at its ends."""
    while piece[0] == 1:
        piece = piece[1:]
    while piece[-1] == 1:
        piece = piece[:-1]
    return piece


def _number(phone: str, word: str, numbers: dict[str, int]) -> int:
    if phone in numbers:
        return numbers[phone]
    raise InputError(
        f"text: expected words of phones joined by hyphens, such as hh-ah-l-ow, of the phones "
        f"{' '.join(numbers)}; found {phone[:20]!r} in {word[:40]!r}."
    )
