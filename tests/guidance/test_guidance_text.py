"""Texts on frames: aligned with the whole utterance, cut to the crop, never laid on padding."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.speech.utterances import Utterance
from kdlight.codec.alignment import TimedWord
from kdlight.errors import InputError
from kdlight.guidance.text import (
    IndexAlignment,
    SentenceAlignment,
    TextSource,
    TimedAlignment,
    UniformAlignment,
    WindowAlignment,
)
from tests.guidance.tiny_guidance import GRID, HOP, RATE, WIDTH, Letters, Timed, crop, utterance

TALK = [utterance(0, 20 * HOP, "one fine day now"), utterance(1, 30 * HOP, "so it is")]
ALL = [UniformAlignment(), WindowAlignment(2), SentenceAlignment()]


def laid(source: TextSource, starts: list[int], frames: int) -> Any:
    source.prepare(TALK)
    batch = crop(TALK, [start * HOP for start in starts], frames * HOP)
    return source.features(batch, GRID, torch.zeros(2, frames, WIDTH))


def words_of(found: Any) -> list[list[int]]:
    """Number of the word on each frame, 0 for none."""
    return [(row[:, 2] * mask).long().tolist() for row, mask in zip(*found, strict=True)]


def test_even_places_by_hand() -> None:
    found = laid(TextSource(Letters(), UniformAlignment()), [0, 0], 30)
    expected = [word for word in (1, 2, 3, 4) for _ in range(5)] + [0] * 10
    assert words_of(found) == [expected, [word for word in (1, 2, 3) for _ in range(10)]]


@pytest.mark.parametrize("alignment", [UniformAlignment(), TimedAlignment()])
def test_a_crop_has_the_words_that_lie_in_it(alignment: Any) -> None:
    whole = laid(TextSource(Letters(), alignment, Timed()), [0, 0], 30)
    found = laid(TextSource(Letters(), alignment, Timed()), [6, 2], 9)
    for row, start in enumerate((6, 2)):
        assert torch.equal(found.mask[row], whole.mask[row, start : start + 9])
        assert torch.equal(found.features[row], whole.features[row, start : start + 9])


def test_by_index_a_crop_has_its_own_words_from_its_first_frame_on() -> None:
    # Words last five frames from frame 2 on: the crop of 6 to 15 has the middles of two words,
    # that of 2 to 11 of the same two. Each is read as a text of its own.
    found = laid(TextSource(Letters(), IndexAlignment(special=False), Timed()), [6, 1], 9)
    assert words_of(found) == [[1, 2, 0, 0, 0, 0, 0, 0, 0]] * 2
    letters = [[chr(int(state[1])) for state in row[:2]] for row in found.features]
    assert letters == [["f", "d"], ["s", "i"]]
    # A crop without a word has no target, not even a special token.
    found = laid(TextSource(Letters(), IndexAlignment(), Timed()), [6, 20], 9)
    assert found.mask.sum(1).tolist() == [3, 0]
    assert words_of(found)[0] == [9000, 1, 2, 0, 0, 0, 0, 0, 0]


def test_times_by_hand() -> None:
    # Frames of 10 ms: a pause of two, and five of each word.
    found = laid(TextSource(Letters(), TimedAlignment(), Timed()), [0, 0], 30)
    expected = [0, 0] + [word for word in (1, 2, 3, 4) for _ in range(5)]
    # The first utterance ends after 20 frames, within its last word.
    assert words_of(found)[0] == expected[:20] + [0] * 10
    assert words_of(found)[1] == expected[:17] + [0] * 13


@pytest.mark.parametrize("alignment", ALL)
@pytest.mark.parametrize("start", [0, 15])
def test_padding_is_never_a_target(alignment: Any, start: int) -> None:
    found = laid(TextSource(Letters(), alignment), [start, start], 15)
    left = [max(0, min(15, frames - start)) for frames in (20, 30)]
    for row, frames in enumerate(left):
        assert not found.mask[row, frames:].any()
    assert found.features[~found.mask].eq(0).all()
    # Nor is the token that is no text.
    assert found.features.abs().max() < 1000


def test_windows_keep_to_the_words_of_the_crop() -> None:
    found = laid(TextSource(Letters(), WindowAlignment(0)), [0, 0], 30)
    # Even places are the middles of the words; each reaches up to the next.
    assert words_of(found)[0] == [1] * 7 + [2] * 5 + [3] * 5 + [4] * 3 + [0] * 10
    found = laid(TextSource(Letters(), WindowAlignment(0)), [10, 10], 10)
    # The second word, said before the crop, lasts into it.
    assert words_of(found)[0] == [2] * 2 + [3] * 5 + [4] * 3


def test_a_window_finds_the_frame_that_is_most_like_the_word() -> None:
    source = TextSource(Letters(), WindowAlignment(3))
    source.prepare(TALK)
    student = torch.zeros(2, 20, WIDTH)
    # Even places of the four words are frames 2, 7, 12 and 17.
    for place, state in ((4, (3, ord("o"), 1)), (15, (3, ord("d"), 3))):
        student[0, place] = torch.tensor(state).float()
    student[0, 9] = torch.tensor([4.0, ord("f"), 2.0])
    student[0, 18] = torch.tensor([3.0, ord("n"), 4.0])
    found = source.features(crop(TALK, [0, 0], 20 * HOP), GRID, student)
    assert words_of(found)[0][9:15] == [2] * 6
    assert words_of(found)[0][15:] == [3, 3, 3, 4, 4]


@pytest.mark.parametrize("alignment", [UniformAlignment(), WindowAlignment(0), SentenceAlignment()])
def test_what_the_model_could_not_read_has_no_target(alignment: Any) -> None:
    # Of "one fine day now" (16 letters) two words are read, which end after 8: half of 20 frames.
    found = laid(TextSource(Letters(limit=3), alignment), [0, 0], 30)
    assert found.mask.sum(1).tolist()[0] == 10
    if not isinstance(alignment, SentenceAlignment):
        assert words_of(found)[0][:10] == sorted(words_of(found)[0][:10])
        assert set(words_of(found)[0]) == {0, 1, 2}


def test_one_vector_is_on_every_frame() -> None:
    found = laid(TextSource(Letters(), SentenceAlignment()), [0, 0], 30)
    assert found.mask.sum(1).tolist() == [20, 30]
    assert found.features[0, :20].eq(torch.tensor([1.0, 2.0, 5.0])).all()


def test_an_empty_text_has_no_vector() -> None:
    talk = [utterance(index, 30 * HOP, text) for index, text in enumerate(("", "so it"))]
    source = TextSource(Letters(), SentenceAlignment())
    source.prepare(talk)
    found = source.features(crop(talk, [0, 0], 30 * HOP), GRID, torch.zeros(2, 30, WIDTH))
    assert found.mask.sum(1).tolist() == [0, 30]


def test_words_that_nobody_can_tell_are_refused() -> None:
    class Deaf(Timed):
        def words(self, utterance: Any) -> list[TimedWord]:
            return []

    with pytest.raises(InputError, match="expected Deaf to tell the words of an utterance"):
        TextSource(Letters(), TimedAlignment(), Deaf()).prepare(TALK)


def test_states_and_times_from_the_cache_are_the_same(tmp_path: Path) -> None:
    online = laid(TextSource(Letters(), TimedAlignment(), Timed()), [3, 4], 10)
    for _ in range(2):
        teacher, timer = Letters(), Timed()
        kept = laid(TextSource(teacher, TimedAlignment(), timer, str(tmp_path)), [3, 4], 10)
        assert torch.equal(kept.features, online.features)
        assert torch.equal(kept.mask, online.mask)
    assert teacher.asked == timer.asked == 0, "the second run asks nobody"


def test_what_cannot_be_aligned_is_refused() -> None:
    for alignment in (TimedAlignment(), IndexAlignment()):
        with pytest.raises(InputError, match="words: expected who tells word times"):
            TextSource(Letters(), alignment)
    silent = [Utterance("u", torch.zeros(1, HOP), HOP, RATE)]
    with pytest.raises(InputError, match="the data have no transcripts"):
        TextSource(Letters(), UniformAlignment()).prepare(silent)
    source = TextSource(Letters(), TimedAlignment(), Timed())
    source.prepare(TALK[:1])
    with pytest.raises(InputError, match="u1: expected an utterance of the training data"):
        source.features(crop(TALK, [0, 0], HOP), GRID, torch.zeros(2, 1, WIDTH))
