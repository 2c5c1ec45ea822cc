"""Forced alignment: labels of frames by hand, and a sentence whose phones are known."""

import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.speech.phones import (
    NUMBERS,
    PHONES,
    ForcedAlignment,
    PhoneAligner,
    Span,
    plain_words,
)


def test_a_frame_has_the_phone_in_its_middle() -> None:
    phones = [Span("SIL", 0.0, 0.05), Span("AA", 0.05, 0.11), Span("S", 0.11, 0.14)]
    found = ForcedAlignment([], phones, [])
    names = [PHONES[label] if label >= 0 else "" for label in found.labels(8, 0.02).tolist()]
    assert names == ["SIL", "SIL", "AA", "AA", "AA", "S", "S", ""]
    guessed = ForcedAlignment([], phones, [Span("xyzzy", 0.05, 0.11)])
    assert guessed.labels(8, 0.02).tolist()[2:5] == [-1, -1, -1]
    assert found.labels(4, 0.01).tolist() == [NUMBERS["SIL"]] * 4


def test_words_as_a_dictionary_has_them() -> None:
    assert plain_words("Don\u2019t  stop - the Cat's here.") == [
        "don't",
        "stop",
        "the",
        "cat's",
        "here",
    ]
    assert len(set(PHONES)) == 40


def test_a_spoken_sentence_is_aligned() -> None:
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx")
    espeak = pytest.importorskip("datamodules.speech.voices.espeak", reason="espeak-ng")
    if espeak.loaded() is None:
        pytest.skip("needs espeak-ng")
    from torchaudio.functional import resample

    speech = espeak.VOICES[0].speak("the children sing a zzyzx song")
    audio = resample(speech.audio, speech.sample_rate, 16_000)[0]
    aligner = PhoneAligner()
    found = aligner(audio, 16_000, "The children sing a zzyzx song!")
    assert found is not None
    assert [word.name for word in found.words] == ["the", "children", "sing", "a", "zzyzx", "song"]
    assert [word.name for word in found.guessed] == ["zzyzx"]
    edges = [edge for phone in found.phones for edge in (phone.start, phone.end)]
    assert edges == sorted(edges)
    spoken = [phone.name for phone in found.phones if phone.name != "SIL"]
    assert spoken[2:8] == ["CH", "IH", "L", "D", "R", "AH"]
    labels = found.labels(len(audio) // 320, 0.02)
    assert -1 in labels
    assert NUMBERS["CH"] in labels
    again = aligner(audio, 16_000, "The children sing a zzyzx song!")
    assert again == found, "what was heard before does not matter"
    for text in ("", "the 3 children"):
        assert aligner(audio, 16_000, text) is None
    with pytest.raises(InputError, match="forced alignment: expected audio"):
        aligner(audio[None], 16_000, "the")
    assert aligner(torch.zeros(8000), 16_000, "the children sing a song together all day") is None
