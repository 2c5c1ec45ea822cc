"""Sources of features: crops from the cache, padding, rates, the shuffled control."""

from pathlib import Path

import pytest
import torch

from kdlight.codec.alignment import Aligned
from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError
from kdlight.guidance.sources import Pooled, Shuffled
from kdlight.guidance.speech import SpeechSource
from tests.guidance.tiny_guidance import GRID, HOP, RATE, WIDTH, Loudness, crop, utterance

TALK = [utterance(0, 20 * HOP), utterance(1, 30 * HOP), utterance(2, 7 * HOP + 5)]


def student(frames: int) -> torch.Tensor:
    return torch.zeros(3, frames, WIDTH)


def test_a_crop_from_the_cache_is_what_the_teacher_hears_in_it(tmp_path: Path) -> None:
    online = SpeechSource(Loudness())
    kept = SpeechSource(Loudness(), str(tmp_path), "float32")
    kept.prepare(TALK)
    batch = crop(TALK, [4 * HOP, 13 * HOP, 0], 10 * HOP)
    heard, read = (source.features(batch, GRID, student(10)) for source in (online, kept))
    # This teacher knows nothing beyond a frame, so whole and crop agree; but not the last frame
    # of the short utterance, where the padding of the whole and of the crop are the same zeros.
    assert torch.equal(heard.mask, read.mask)
    torch.testing.assert_close(heard.features, read.features, rtol=0, atol=0)
    assert heard.mask.sum(1).tolist() == [10, 10, 8]


def test_padding_has_no_feature(tmp_path: Path) -> None:
    for source in (SpeechSource(Loudness()), SpeechSource(Loudness(), str(tmp_path))):
        source.prepare(TALK)
        found = source.features(crop(TALK, [0, 0, 0], 30 * HOP), GRID, student(30))
        assert found.mask.sum(1).tolist() == [20, 30, 8]
        assert found.features[~found.mask].eq(0).all()
        assert found.features[found.mask].ne(0).all()


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_crop_on_another_grid_is_the_crop_of_the_whole(rate: int, tmp_path: Path) -> None:
    """A teacher of 50 frames a second, and a codec of 75 at 24 kHz or of 40 at 16 kHz."""
    grid = FrameGrid(rate, rate // 75 if rate == 24_000 else 400)
    talk = [utterance(5, 40 * grid.hop_length)]
    talk[0].__dict__["sample_rate"] = rate
    source = SpeechSource(Loudness(320), str(tmp_path), "float32")
    source.prepare(talk)
    whole = source.features(crop(talk, [0], 40 * grid.hop_length), grid, torch.zeros(1, 40, WIDTH))
    for first in (0, 7, 26):
        part = crop(talk, [first * grid.hop_length], 14 * grid.hop_length)
        found = source.features(part, grid, torch.zeros(1, 14, WIDTH))
        assert torch.equal(found.mask, whole.mask[:, first : first + 14])
        torch.testing.assert_close(found.features, whole.features[:, first : first + 14])


def test_a_run_that_begins_again_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SpeechSource(Loudness(), str(tmp_path))
    first.prepare(TALK)
    batch = crop(TALK, [0, 0, 0], 7 * HOP)
    expected = first.features(batch, GRID, student(7))
    again = SpeechSource(Loudness(), str(tmp_path))
    monkeypatch.setattr(Loudness, "states", lambda *_: pytest.fail("the teacher was asked"))
    again.prepare(TALK)
    assert torch.equal(again.features(batch, GRID, student(7)).features, expected.features)


def test_ranks_share_what_is_prepared(tmp_path: Path) -> None:
    for rank in range(2):
        SpeechSource(Loudness(), str(tmp_path)).prepare(TALK, rank, 2)
        files = list(tmp_path.rglob("*.safetensors"))
        assert len(files) == (2, 3)[rank]


def test_an_utterance_that_was_not_prepared_is_refused(tmp_path: Path) -> None:
    source = SpeechSource(Loudness(), str(tmp_path))
    source.prepare(TALK[:2])
    with pytest.raises(InputError, match="u2: expected an utterance of the training data"):
        source.features(crop(TALK, [0, 0, 0], HOP), GRID, student(1))


def test_shuffled_items_get_a_crop_of_another_utterance(tmp_path: Path) -> None:
    batch = crop(TALK, [4 * HOP, 13 * HOP, 0], 10 * HOP)
    sources = SpeechSource(Loudness()), SpeechSource(Loudness(), str(tmp_path), "float32")
    controls = [Shuffled(source) for source in sources]
    for control in controls:
        control.prepare(TALK)
    online, kept = (control.features(batch, GRID, student(10)) for control in controls)
    assert torch.equal(online.mask, kept.mask)
    torch.testing.assert_close(online.features, kept.features, rtol=0, atol=0)
    # No target where one of the two is padding, and none of its own.
    own = sources[0].features(batch, GRID, student(10))
    assert not (online.mask & ~own.mask).any()
    assert online.mask.sum(1).ge(8).all()
    assert (online.features - own.features)[online.mask].ne(0).any(1).all()
    assert online.features[~online.mask].eq(0).all()


def test_shuffled_items_depend_on_the_crop_and_not_on_its_batch() -> None:
    control = Shuffled(SpeechSource(Loudness()))
    control.prepare(TALK)
    starts = [4 * HOP, 13 * HOP, 0]
    whole = control.features(crop(TALK, starts, 7 * HOP), GRID, student(7))
    for item in range(3):
        alone = crop(TALK[item : item + 1], starts[item : item + 1], 7 * HOP)
        found = control.features(alone, GRID, student(7)[:1])
        assert torch.equal(found.features[0], whole.features[item])
    # Over its crops an utterance meets all others.
    met = set()
    for start in range(20):
        found = control.features(crop(TALK[1:2], [start * HOP], 7 * HOP), GRID, student(7)[:1])
        met.add(next(other for other in (0, 2) if _is(found, other, start)))
    assert met == {0, 2}


def _is(found: Aligned, other: int, start: int) -> bool:
    """Whether a target is the crop of an utterance as far in as the own one, or its last."""
    last = max(0, TALK[other].samples // HOP - 7)
    batch = crop(TALK[other : other + 1], [min(start, last) * HOP], 7 * HOP)
    plain = SpeechSource(Loudness()).features(batch, GRID, student(7)[:1])
    return torch.equal(plain.features, found.features)


def test_items_cannot_be_shuffled_without_another() -> None:
    with pytest.raises(InputError, match="2 training utterances or more"):
        Shuffled(SpeechSource(Loudness())).prepare(TALK[:1])
    control = Shuffled(SpeechSource(Loudness()))
    control.prepare(TALK[:2])
    with pytest.raises(InputError, match="u2: expected an utterance of the training data"):
        control.features(crop(TALK, [0, 0, 0], HOP), GRID, student(1))


def test_shuffled_frames_are_the_same_ones_in_another_order_every_time() -> None:
    plain, batch = SpeechSource(Loudness()), crop(TALK, [0, 0, 0], 10 * HOP)
    own = plain.features(batch, GRID, student(10))
    control = Shuffled(plain, by="frames", seed=1)
    found, again = (control.features(batch, GRID, student(10)) for _ in range(2))
    assert torch.equal(found.features, again.features)
    assert torch.equal(found.mask, own.mask)
    assert not torch.equal(found.features, own.features)
    for mixed, straight in zip(found.features[..., 0], own.features[..., 0], strict=True):
        assert torch.equal(mixed.sort().values, straight.sort().values)
    with pytest.raises(InputError, match="by: expected 'items' or 'frames'"):
        Shuffled(plain, by="speakers")  # type: ignore[arg-type]


def test_a_pooled_source_says_the_same_in_every_frame() -> None:
    plain, batch = SpeechSource(Loudness()), crop(TALK, [0, 0, 0], 10 * HOP)
    own = plain.features(batch, GRID, student(10))
    found = Pooled(plain).features(batch, GRID, student(10))
    torch.testing.assert_close(found.features[2, 3], own.features[2, :8].mean(0))
    assert found.features[2, 8:].eq(0).all()
    assert plain.teacher.sample_rate == RATE
