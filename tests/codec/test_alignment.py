"""Frame grids to the sample, and text on frames by hand."""

import pytest
import torch
from torch import Tensor

from kdlight.codec.alignment import (
    TimedWord,
    broadcast_alignment,
    ctc_word_times,
    index_alignment,
    joined_text,
    timed_alignment,
    token_times,
    uniform_alignment,
    window_alignment,
)
from kdlight.codec.frames import (
    Convolutions,
    FrameGrid,
    frame_mask,
    overlap_weights,
    resample_frames,
)
from kdlight.errors import InputError

# Kernels and strides of the feature encoder of wav2vec 2.0, HuBERT, WavLM and data2vec.
SPEECH = Convolutions.of([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])


def states(*lengths: int) -> tuple[Tensor, Tensor]:
    """State i of an utterance is 100 + i; padding is NaN and does not count."""
    widest = max(lengths)
    tokens = torch.arange(widest) < torch.tensor(lengths)[:, None]
    values = torch.arange(100.0, 100 + widest).expand(len(lengths), -1)
    return torch.where(tokens, values, torch.nan)[..., None], tokens


def shown(features: Tensor, mask: Tensor) -> list[list[float | None]]:
    assert features[~mask].eq(0).all()
    return [
        [round(value - 100, 3) if on else None for value, on in zip(row, marks, strict=True)]
        for row, marks in zip(features[..., 0].tolist(), mask.tolist(), strict=True)
    ]


def test_speech_models_have_a_hop_of_320_and_a_field_of_400() -> None:
    assert SPEECH == (320, 400)
    assert SPEECH.padding(640) == (40, 40)
    assert SPEECH.padding(641) == (40, 40 + 319)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 400, 15_999, 16_000, 16_001])
def test_padding_gives_one_frame_for_each_hop(samples: int) -> None:
    padded = samples + sum(SPEECH.padding(samples))
    assert (padded - 400) // 320 + 1 == -(-samples // 320)
    assert (padded - 400) % 320 == 0


def test_padding_centres_teacher_frames_on_codec_frames() -> None:
    """The gradient of frame k, through the real stack of convolutions, is centred on its hop."""
    layers = [
        torch.nn.Conv1d(1, 1, kernel, stride, bias=False, dtype=torch.float64)
        for kernel, stride in zip([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2], strict=True)
    ]
    stack = torch.nn.Sequential(*layers)
    for layer in layers:
        torch.nn.init.ones_(layer.weight)
    audio = torch.zeros(1, 1, 3200, dtype=torch.float64, requires_grad=True)
    centres = {}
    for name, padding in {"40": SPEECH.padding(3200), "160": (160, 160), "0": (0, 0)}.items():
        frames = stack(torch.nn.functional.pad(audio, padding))[0, 0]
        (gradient,) = torch.autograd.grad(frames[4], audio)
        weight = gradient[0, 0]
        position = torch.arange(3200, dtype=torch.float64) + 0.5
        centres[name] = float((weight * position).sum() / weight.sum()), len(frames)
    middle = 4 * 320 + 160
    assert centres["40"] == (pytest.approx(middle), 10)
    assert centres["160"] == (pytest.approx(middle - 120), 10)
    assert centres["0"] == (pytest.approx(middle + 40), 9)


def test_same_grid_is_the_same_bits() -> None:
    features, mask = torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)
    grids = FrameGrid(16_000, 320), FrameGrid(24_000, 480)
    found, marks = resample_frames(features, mask, *grids, 7)
    assert torch.equal(found[:, :5], features)
    assert marks.sum(1).tolist() == [5, 5]
    assert found[:, 5:].eq(0).all()
    assert resample_frames(features, mask, *grids, 3)[0].shape == (2, 3, 3)


def test_halving_averages_and_doubling_repeats() -> None:
    features = torch.arange(6.0)[None, :, None]
    mask = torch.ones(1, 6, dtype=torch.bool)
    slow, fast = FrameGrid(16_000, 640), FrameGrid(16_000, 160)
    source = FrameGrid(16_000, 320)
    assert resample_frames(features, mask, source, slow, 3)[0].flatten().tolist() == [0.5, 2.5, 4.5]
    found = resample_frames(features, mask, source, fast, 12)[0].flatten()
    assert torch.equal(found, torch.arange(6.0).repeat_interleave(2))


def test_odd_rates_share_by_time() -> None:
    # 50 Hz onto 75 Hz (EnCodec): frames of 4 and of 8/3 in units of 5 ms: thirds of 3 and of 2.
    weights = overlap_weights(FrameGrid(16_000, 320), FrameGrid(24_000, 320), 2, 3)
    expected = torch.tensor([[1, 0], [0.5, 0.5], [0, 1]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)
    # Whisper's own frames are centred on multiples of 320: half a frame before the codec's.
    weights = overlap_weights(FrameGrid(16_000, 320, -160), FrameGrid(16_000, 320), 3, 2)
    assert weights.tolist() == [[0.5, 0.5, 0], [0, 0.5, 0.5]]


def test_an_hour_later_the_grid_is_still_exact() -> None:
    source, target = FrameGrid(16_000, 320), FrameGrid(24_000, 1920)  # 50 Hz and 12.5 Hz
    weights = overlap_weights(source, target, 4000, 1000)
    assert weights[999].nonzero().flatten().tolist() == [3996, 3997, 3998, 3999]
    assert weights[999].sum() == 1


def test_resampling_leaves_masked_frames_out() -> None:
    features = torch.tensor([1.0, 3, torch.nan, torch.nan])[None, :, None]
    mask = torch.tensor([[True, True, False, False]])
    source, slow = FrameGrid(16_000, 320), FrameGrid(16_000, 480)
    found, marks = resample_frames(features, mask, source, slow, 3)
    assert found.flatten().tolist() == pytest.approx([5 / 3, 3, 0])
    assert marks.tolist() == [[True, True, False]]
    with pytest.raises(InputError, match=r"expected \(B, F, D\)"):
        resample_frames(features[None], mask, source, slow, 3)


def test_frame_mask() -> None:
    assert frame_mask(torch.tensor([1, 320, 321, 960]), 320, 3).sum(1).tolist() == [1, 1, 2, 3]
    assert FrameGrid(16_000, 320).frames(321) == 2


def test_index_by_hand() -> None:
    values, tokens = states(2, 4)
    tokens[1, 0] = False  # a special token: the next is the first
    found = index_alignment(values, tokens, torch.tensor([5, 2]), 5)
    assert shown(*found) == [[0, 1, None, None, None], [1, 2, None, None, None]]


def test_uniform_by_hand() -> None:
    values, tokens = states(2, 4, 3)
    found = uniform_alignment(values, tokens, torch.tensor([4, 2, 4]), 5)
    assert shown(*found) == [
        [0, 0, 1, 1, None],
        [0.5, 2.5, None, None, None],
        # Frames of 3 and tokens of 4 parts: 3 | 1 + 2 | 2 + 1 | 3.
        [0, round(2 / 3, 3), round(4 / 3, 3), 2, None],
    ]


def test_timed_by_hand() -> None:
    values, tokens = states(3)
    nan = torch.nan
    times = torch.tensor([[[nan, nan], [0.02, 0.05], [0.05, 0.06]]])
    grid = FrameGrid(16_000, 320)
    found = timed_alignment(values, times, tokens, torch.tensor([5]), 6, grid)
    # 0 to 20 ms is a pause; 40 to 60 ms is half of each token; nothing later.
    assert shown(*found) == [[None, 1, 1.5, None, None, None]]
    late = timed_alignment(values, times, tokens, torch.tensor([2]), 6, grid)
    assert late.mask.tolist() == [[False, True, False, False, False, False]]
    with pytest.raises(InputError, match="times: expected"):
        timed_alignment(values, times[:, 1:], tokens, torch.tensor([5]), 6, grid)


def test_a_word_that_ends_on_an_edge_stays_on_its_side() -> None:
    values, tokens = states(1)
    grid = FrameGrid(24_000, 320)
    for k in range(1, 200):
        times = torch.tensor([[[0.0, k * 320 / 24_000]]], dtype=torch.float64)
        found = timed_alignment(values, times, tokens, torch.tensor([300]), 300, grid)
        assert int(found.mask.sum()) == k


def test_window_by_hand() -> None:
    values = torch.eye(3)[None]
    tokens = torch.ones(1, 3, dtype=torch.bool)
    # Even places are 1, 4 and 7 of 9; speech matches the tokens at 2, 3 and 8.
    speech = torch.zeros(1, 10, 3)
    speech[0, 2, 0] = speech[0, 3, 1] = speech[0, 8, 2] = 1
    frames = torch.tensor([9])
    found = window_alignment(values, tokens, frames, speech, window=1)
    assert found.features[0, :9].argmax(1).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert found.mask.tolist() == [[True] * 9 + [False]]
    even = window_alignment(values, tokens, frames, speech, window=0)
    assert even.features[0, :9].argmax(1).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]


def test_window_keeps_order_and_ignores_what_lies_outside() -> None:
    values = torch.eye(2)[None]
    tokens = torch.ones(1, 2, dtype=torch.bool)
    speech = torch.zeros(1, 8, 2)
    speech[0, 3, 0] = speech[0, 1, 1] = speech[0, 7, 1] = 1  # 7 is beyond the utterance
    found = window_alignment(values, tokens, torch.tensor([6]), speech, window=8)
    # Token 1 matches frame 1, before token 0's: it may start at frame 3 at the earliest.
    assert found.features[0, :6].argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    assert found.mask.sum() == 6
    with pytest.raises(InputError, match="window"):
        window_alignment(values, tokens, torch.tensor([6]), speech, window=-1)


def test_words_before_a_crop_last_until_the_first_match_in_it() -> None:
    values = torch.eye(4)[None]
    tokens = torch.ones(1, 4, dtype=torch.bool)
    # Even places are 2, 7, 12 and 17 of 20; the crop has the frames from 10 on.
    frames, first = torch.tensor([20]), torch.tensor([10])
    found = window_alignment(values, tokens, frames, torch.zeros(1, 10, 4), 0, first)
    assert found.features[0].argmax(1).tolist() == [1] * 2 + [2] * 5 + [3] * 3
    # Token 1, whose window reaches into the crop, is matched in it and gives way to token 0.
    speech = torch.zeros(1, 10, 4)
    speech[0, 1, 1] = speech[0, 4, 2] = speech[0, 7, 3] = 1
    near = window_alignment(values, tokens, frames, speech, 4, first)
    assert near.features[0, :5].argmax(1).tolist() == [0, 1, 1, 1, 2]
    # A crop between two windows is all of the token before it.
    between = window_alignment(values, tokens, frames, torch.zeros(1, 2, 4), 0, torch.tensor([14]))
    assert between.features[0].argmax(1).tolist() == [2, 2]


def test_broadcast() -> None:
    found = broadcast_alignment(torch.tensor([[101.0], [102.0]]), torch.tensor([1, 3]), 3)
    assert shown(*found) == [[1, None, None], [2, 2, 2]]


def test_an_utterance_without_words_reaches_no_frame() -> None:
    values, tokens = states(2)
    none, frames = torch.zeros_like(tokens), torch.tensor([4])
    times = torch.zeros(1, 2, 2)
    for found in (
        index_alignment(values, none, frames, 4),
        uniform_alignment(values, none, frames, 4),
        timed_alignment(values, times, none, frames, 4, FrameGrid(16_000, 320)),
        window_alignment(values, none, frames, torch.zeros(1, 4, 1)),
    ):
        assert not found.mask.any()
        assert found.features.eq(0).all()


def test_shapes_are_checked() -> None:
    values, tokens = states(2)
    with pytest.raises(InputError, match="states, tokens and frames"):
        uniform_alignment(values[None], tokens, torch.tensor([4]), 4)
    with pytest.raises(InputError, match="speech: expected"):
        window_alignment(values, tokens, torch.tensor([4]), torch.zeros(1, 4, 2))


def test_token_times_by_hand() -> None:
    words = [TimedWord("abcd", 1.0, 2.0), TimedWord("ef", 3.0, 4.0)]
    assert joined_text(words) == "abcd ef"
    offsets = torch.tensor([[0, 0], [0, 1], [1, 4], [5, 7], [2, 6], [4, 5]])
    times = token_times(words, offsets)
    expected = [[1.0, 1.25], [1.25, 2.0], [3.0, 4.0], [1.5, 3.5]]
    assert times[1:5].tolist() == expected
    assert times[[0, 5]].isnan().all()
    with pytest.raises(InputError, match="offsets: expected at most 7"):
        token_times(words, torch.tensor([[0, 8]]))


def test_ctc_times_of_a_clear_recogniser() -> None:
    # Frames say _ a a _ b c c _ with label 0 as blank; words "ab" and "c".
    path = torch.tensor([0, 1, 1, 0, 2, 3, 3, 0])
    log_probs = torch.nn.functional.one_hot(path, 4).float().mul(20).log_softmax(1)
    words = ctc_word_times(log_probs, ["ab", "c"], [[1, 2], [3]], 0.02, 0)
    assert words[0] == ("ab", pytest.approx(0.02), pytest.approx(0.10))
    assert words[1] == ("c", pytest.approx(0.10), pytest.approx(0.14))
    with pytest.raises(InputError, match="transcript of 9 labels"):
        ctc_word_times(log_probs, ["a"], [[1] * 9], 0.02, 0)
