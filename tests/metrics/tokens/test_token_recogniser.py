"""The recogniser of codes: CTC by hand, codes that spell, codes that say nothing."""

import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.tokens.recogniser import (
    LETTERS,
    CodedSpeech,
    TokenRecogniser,
    collapsed,
    recognition_errors,
    spelled,
    train_recogniser,
    written,
)

WORDS = ("bad", "cab", "dab", "fab", "gab", "jab")


def path_of(text: str) -> torch.Tensor:
    return torch.tensor([0 if sign == "-" else LETTERS.index(sign) + 1 for sign in text])


def speech(count: int, seed: int, spoken: bool) -> list[CodedSpeech]:
    """Two words each, of which every letter lasts four frames of its own code, or of any."""
    source = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        first, second = torch.randint(len(WORDS), (2,), generator=source).tolist()
        text = f"{WORDS[first]} {WORDS[second]}"
        codes = (path_of(text) % 12).repeat_interleave(4)
        if not spoken:
            codes = torch.randint(12, codes.shape, generator=source)
        made.append(CodedSpeech(codes, text))
    return made


def test_a_path_becomes_text_as_ctc_reads_it() -> None:
    assert collapsed(path_of("--bb-oo-o--k")) == "book"
    assert collapsed(path_of("  a--  -b ")) == "a b"
    assert collapsed(path_of("----")) == ""


def test_text_is_spelled_as_words_are_normalised() -> None:
    assert written("It's twenty-one,  Anna!") == "it is 21 anna"
    assert len(spelled("?!")) == 0


def test_steps_are_half_the_frames_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = TokenRecogniser(7, 8, 2).eval()
    codes = [torch.randint(7, (length,)) for length in (9, 4, 1)]
    scores, steps = model(codes)
    assert steps.tolist() == [5, 2, 1]
    assert scores.shape == (3, 5, len(LETTERS) + 1)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(3, 5))
    for one, row in zip(codes, scores, strict=True):
        alone, (count,) = model([one])
        torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_codes_that_spell_are_read_and_codes_of_nothing_are_not() -> None:
    new = speech(40, 1, spoken=True)
    model = train_recogniser(speech(60, 0, spoken=True), 12, iterations=120)
    good = recognition_errors(model, new)
    assert good.cer < 0.05
    assert good.wer < 0.1
    assert good.words == 80
    again = train_recogniser(speech(60, 0, spoken=True), 12, iterations=3)
    same = train_recogniser(speech(60, 0, spoken=True), 12, iterations=3)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), same.parameters(), strict=True)
    )
    deaf = train_recogniser(speech(60, 0, spoken=False), 12, iterations=120)
    assert recognition_errors(deaf, speech(40, 1, spoken=False)).wer > 0.8


def test_speech_without_words_is_refused() -> None:
    silent = [CodedSpeech(torch.zeros(9, dtype=torch.int64), "!")]
    with pytest.raises(InputError, match="at most half as many letters as codes, found none in 1"):
        train_recogniser(silent, 2)
    with pytest.raises(InputError, match="expected utterances with transcripts, found none"):
        recognition_errors(TokenRecogniser(2), silent)
