"""Statistics of codes: closed forms, sums over batches and ranks, round trips, real time."""

import math
import time

import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.speech.speed import RealTimeFactor, single_thread
from kdlight.metrics.tokens.statistics import CodeMatch, TokenStatistics


def test_uniform_and_constant_levels_have_closed_forms() -> None:
    metric = TokenStatistics(n_q=2, codebook_size=8, frame_rate=50.0)
    uniform = torch.arange(8).repeat(3)
    metric.update(torch.stack([uniform, torch.full_like(uniform, 5)]))
    found = metric.compute()
    assert found["usage"].tolist() == [1.0, 1 / 8]
    assert found["expired"].tolist() == [0.0, 7 / 8]
    assert found["entropy"].tolist() == pytest.approx([3.0, 0.0])
    assert found["perplexity"].tolist() == pytest.approx([8.0, 1.0])
    assert found["entropy_bitrate"].tolist() == pytest.approx([150.0, 0.0])
    assert found["entropy_bitrate_total"].item() == pytest.approx(150.0)
    assert found["bitrate"].item() == pytest.approx(2 * 3 * 50.0)
    assert found["frames"].item() == 24


def test_expired_codes_are_those_below_the_threshold() -> None:
    metric = TokenStatistics(1, 4, 1.0, expired_below=3)
    metric.update(torch.tensor([[0, 0, 0, 1, 1, 2]]))
    assert metric.compute()["expired"].item() == 3 / 4
    assert metric.compute()["usage"].item() == 3 / 4


def test_parts_add_up_to_the_whole() -> None:
    codes = torch.randint(16, (5, 3, 40), generator=torch.Generator().manual_seed(0))
    whole, parts = TokenStatistics(3, 16, 75.0), TokenStatistics(3, 16, 75.0)
    whole.update(codes)
    for utterance in codes:
        parts.update(utterance)
    # What torchmetrics does across ranks with states that sum.
    first, second = TokenStatistics(3, 16, 75.0), TokenStatistics(3, 16, 75.0)
    first.update(codes[:2])
    second.update(codes[2:])
    first.counts += second.counts
    for other in (parts, first):
        for name, value in whole.compute().items():
            assert torch.equal(value, other.compute()[name])
    parts.reset()
    parts.update(codes[0])
    assert parts.compute()["frames"] == 40
    assert all(
        reduction is torch.sum or "sum" in str(reduction)
        for reduction in whole._reductions.values()
    )


def test_no_frame_is_nan() -> None:
    found = TokenStatistics(2, 8, 50.0).compute()
    for name in ("usage", "expired", "entropy", "perplexity", "entropy_bitrate"):
        assert found[name].isnan().all()
    assert found["bitrate"] == 300.0


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.tensor([[0, 8]]), "0 to 7, found 0 to 8"),
        (torch.tensor([[-1, 2]]), "found -1 to 2"),
        (torch.tensor([[0.0, 1.0]]), "float32"),
        (torch.zeros(3, 4, dtype=torch.long), r"\(3, 4\)"),
    ],
)
def test_foreign_codes_are_refused(codes: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TokenStatistics(1, 8, 50.0).update(codes)


def test_match_counts_levels_and_whole_frames() -> None:
    metric = CodeMatch(2, 8)
    metric.update(torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 0]] * 2))
    metric.update(torch.tensor([[1, 1], [1, 1]]), torch.tensor([[1, 1], [0, 1]]))
    assert metric.compute()["match"].tolist() == pytest.approx([5 / 6, 4 / 6])
    assert metric.compute()["match_frame"].item() == pytest.approx(4 / 6)
    with pytest.raises(InputError, match="again"):
        metric.update(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long))
    assert CodeMatch(2, 8).compute()["match"].isnan().all()


def test_real_time_factor_counts_work_and_sleep() -> None:
    metric = RealTimeFactor()
    assert metric.timed(lambda: time.sleep(0.05) or 7, 0.5) == 7
    found = metric.compute()
    assert 0.1 <= found["wall"].item() < 1
    assert found["cpu"].item() < 0.1
    metric.update(cpu=1.0, wall=2.0, audio=9.5)
    assert metric.compute()["wall"].item() == pytest.approx(0.2, abs=0.05)
    assert math.isnan(RealTimeFactor().compute()["cpu"].item())


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), single_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == before
