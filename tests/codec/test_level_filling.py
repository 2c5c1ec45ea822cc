"""Decoding a level from masks: what is revealed is read, the schedule, and what never changes."""

import pytest
import torch

from kdlight.codec.level_filling import fill_level, still_unknown
from kdlight.discrete.draws import RowDraws

K = 8


def copies(codes):
    """The exact law of two codes that are equal and uniform, as logits."""
    other = codes.flip(1)
    logits = torch.zeros(*codes.shape, K, dtype=torch.float64)
    known = other < K
    logits[known] = torch.nn.functional.one_hot(other[known], K).double().log()
    return logits


def agreement(logits_of, rows=4000, steps=2):
    start = torch.full((rows, 2), K)
    found = fill_level(logits_of, start, K, RowDraws(torch.arange(rows), 0), steps)
    assert bool(((found >= 0) & (found < K)).all())
    return float((found[:, 0] == found[:, 1]).double().mean())


@pytest.mark.parametrize("steps", [2, 5, 16])
def test_two_codes_that_must_agree_do(steps):
    assert agreement(copies, steps=steps) == 1.0


@pytest.mark.parametrize("steps", [2, 16])
def test_the_released_loop_reads_nothing_of_what_it_revealed(steps):
    """Pheme's program asks its network sixteen times about the same masks: 1/K agree."""

    def frozen(codes):
        return copies(torch.full_like(codes, K))

    assert agreement(frozen, steps=steps) == pytest.approx(1 / K, abs=0.02)


@pytest.mark.parametrize(("total", "steps"), [(9, 9), (30, 16), (3, 16), (50, 1)])
def test_the_schedule_falls_strictly_to_nothing(total, steps):
    counts, left = [], torch.tensor([total])
    for step in range(1, steps + 1):
        left = still_unknown(torch.tensor([total]), left, step, steps)
        counts.append(int(left))
    assert counts[-1] == 0
    before = [total, *counts[:-1]]
    assert all(a > b or a == b == 0 for a, b in zip(before, counts, strict=True))
    if steps == total:
        assert counts == list(range(total - 1, -1, -1)), "one at a time"


def test_what_is_known_stays_and_is_decided_once():
    seen = []
    start = torch.full((3, 12), K)
    start[:, :4] = torch.arange(4)
    start[1, 8:] = 0  # padding

    def watched(codes):
        seen.append(codes.clone())
        return torch.randn(3, 12, K, generator=torch.Generator().manual_seed(len(seen)))

    found = fill_level(watched, start, K, RowDraws(torch.arange(3), 1), 6)
    assert torch.equal(found[:, :4], start[:, :4])
    assert bool((found[1, 8:] == 0).all())
    for early, late in zip(seen, [*seen[1:], found], strict=True):
        known = early < K
        assert torch.equal(early[known], late[known])
        assert int((late < K).sum()) > int(known.sum())


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_an_oracle_that_is_certain_is_followed(steps):
    target = torch.arange(24).reshape(2, 12) % K

    def certain(codes):
        return torch.nn.functional.one_hot(target, K).double().log()

    start = torch.full((2, 12), K)
    draws = RowDraws(torch.arange(2), 0)
    assert torch.equal(fill_level(certain, start, K, draws, steps, temperature=0), target)
    assert torch.equal(fill_level(certain, start, K, None, steps), target)


def test_a_row_is_the_same_in_any_batch():
    table = torch.randn(5, 9, K, generator=torch.Generator().manual_seed(3))

    def law(rows):
        return lambda codes: (
            table[rows] + (codes < K).sum(1)[:, None, None] * table[rows].roll(1, 2)
        )

    both = fill_level(law([0, 4]), torch.full((2, 9), K), K, RowDraws(torch.tensor([0, 4]), 7), 4)
    alone = fill_level(law([4]), torch.full((1, 9), K), K, RowDraws(torch.tensor([4]), 7), 4)
    assert torch.equal(both[1:], alone)
