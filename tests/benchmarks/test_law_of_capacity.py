import pytest

from tests.benchmarks.capacity import best_ratio


def test_the_fit_finds_the_turn_of_a_parabola_and_says_when_there_is_none():
    ratios = [1.0, 2.0, 4.0, 16.0, 64.0]
    # log golden = (log2(ratio) - 1.5)^2: least at 2 ** 1.5.
    golden = [2.0 ** ((place - 1.5) ** 2) for place in (0, 1, 2, 4, 6)]
    assert best_ratio(ratios, golden) == pytest.approx(2**1.5, rel=1e-9)
    assert best_ratio(ratios, [1 / value for value in golden]) is None
    # Still falling at the largest teacher.
    assert best_ratio(ratios, [2.0 ** ((place - 9) ** 2) for place in (0, 1, 2, 4, 6)]) is None
