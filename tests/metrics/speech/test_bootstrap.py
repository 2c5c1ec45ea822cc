"""Bootstrap intervals: constants, the normal law, ratios of sums, a fixed seed."""

import math

import numpy as np
import pytest

from kdlight.metrics.speech.bootstrap import bootstrap, mean_interval


@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_constant_is_that_constant(count: int) -> None:
    assert mean_interval([0.3] * count) == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)


def test_the_interval_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400)
    found = mean_interval(values.tolist())
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_same_data_and_seed_give_the_same_interval() -> None:
    values = np.random.default_rng(2).normal(size=50).tolist()
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_a_ratio_of_sums_weighs_utterances_by_their_words() -> None:
    errors, words = [0.0, 5.0], [90.0, 10.0]
    found = bootstrap([errors, words], lambda sums: sums[0] / sums[1])
    assert found == pytest.approx((0.05, 0.0, 0.5))


def test_no_utterance_is_nan() -> None:
    assert all(math.isnan(value) for value in mean_interval([]))
