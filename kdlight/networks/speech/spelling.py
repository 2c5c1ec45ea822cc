"""English as it is spelled, as the ARPAbet phones that espeak-ng's rules give it."""

# ruff: noqa: RUF001 (letters of the IPA)

import re
import unicodedata

from kdlight.errors import InputError

SOUNDS = {
    **{"iː": "iy", "i": "iy", "ɪ": "ih", "ᵻ": "ih", "ɛ": "eh", "e": "eh", "æ": "ae", "a": "ae"},
    **{"ʌ": "ah", "ə": "ah", "ɐ": "ah", "ɑː": "aa", "ɑ": "aa", "ɒ": "aa", "ɔː": "ao", "ɔ": "ao"},
    **{"o": "ao", "oː": "ao", "ʊ": "uh", "uː": "uw", "u": "uw", "ɜː": "er", "ɜ": "er", "ɚ": "er"},
    **{"eɪ": "ey", "aɪ": "ay", "oʊ": "ow", "aʊ": "aw", "ɔɪ": "oy"},
    **{"w": "w", "j": "y", "ɹ": "r", "r": "r", "l": "l", "ɫ": "l", "m": "m", "n": "n", "ŋ": "ng"},
    **{"s": "s", "z": "z", "ʃ": "sh", "ʒ": "zh", "f": "f", "v": "v", "θ": "th", "ð": "dh"},
    **{"h": "hh", "x": "k", "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "ɡ": "g", "ɾ": "d"},
    # A stop in the throat: the vowel before it is all that is heard.
    "ʔ": "",
}
"""What espeak-ng's American English writes, and what it is of the phones of synthetic speech.

The affricates of cheese and jam are two phones each, t-sh and d-zh; a flap is a d.
"""
SILENT = str.maketrans("", "", "ˈˌ\u0329\u0303\u032fʲ")
"""Stress, and marks on a sound that do not make it another phone."""
_LONGEST = max(map(len, SOUNDS))


def spelled(text: str) -> str:
    """Words joined by spaces, each a row of phones joined by hyphens; commas and ends stay.

    Numbers and abbreviations are read out; what a word sounds like may depend on its neighbours.

    Args:
        text: English.

    Raises:
        InputError: It has letters of another script, the package piper-tts is not there, or a sound
            is not one of English.
    """
    for letter in filter(str.isalpha, text):
        if not unicodedata.name(letter, "").startswith("LATIN"):
            raise InputError(f"text: expected English, found {letter!r} in {text.strip()[:40]!r}.")
    try:
        from piper.phonemize_espeak import EspeakPhonemizer
    except ImportError:
        raise InputError(
            "text: expected words of phones joined by hyphens, such as hh-ah-l-ow, or the package "
            "piper-tts for words as they are spelled (pip install 'kdlight[speech-demo]'), found "
            f"{text.strip()[:40]!r} and no such package."
        ) from None
    sentences = EspeakPhonemizer().phonemize("en-us", text)
    heard = " ".join("".join(sounds) for sounds in sentences)
    return " ".join(_word(each) for each in heard.split())


def _word(heard: str) -> str:
    """A word in IPA, with punctuation behind it, as phones with the same."""
    sounds = heard.translate(SILENT)
    bare = re.sub(r"[.!?,;:]+$", "", sounds)
    phones, place = [], 0
    while place < len(bare):
        for length in range(_LONGEST, 0, -1):
            found = SOUNDS.get(bare[place : place + length])
            if found is not None:
                phones.append(found)
                place += length
                break
        else:
            if bare[place] not in "ː‿-":
                raise InputError(
                    f"text: expected words of English, found the sound {bare[place]!r} in "
                    f"{heard!r}."
                )
            place += 1
    return "-".join(filter(None, phones)) + sounds[len(bare) :]
