import pytest

from kdlight.report.balance import balance_of
from kdlight.report.runs import load_run


def logged(kl, gan, threshold=100.0):
    """Two terms, measured every 50 iterations."""
    points = {
        name: [(50.0 * (index + 1), norm) for index, norm in enumerate(norms) if norm is not None]
        for name, norms in (("balance/kl", kl), ("balance/gan", gan))
    }
    if threshold is not None:
        points["balance/threshold"] = [(50.0, threshold)]
    return points | {"balance/ratio": [(50.0, 1.0)], "train/loss": [(50.0, 1.0)]}


@pytest.mark.parametrize(
    ("kl", "gan", "sentence"),
    [
        (
            [1.0, 4.0, 2.0],
            [1.0, 0.1, 2.0],
            "The largest gradient never exceeded 100 times the smallest: at most it was 40 times "
            "as large, kl over gan at iteration 100.",
        ),
        (
            [1.0, 0.01, 0.001],
            [1.0, 4.0, 2.0],
            "The largest gradient exceeded 100 times the smallest in 2 of 3 measurements, from "
            "iteration 100 to 150: at most it was 2e+03 times as large, gan over kl at iteration "
            "150.",
        ),
        (
            [1.0, 1.0, 3.0],
            [1.0, 0.0, 2.0],
            "The largest gradient exceeded 100 times the smallest in 1 of 3 measurements, at "
            "iteration 100: gan had none at all at iteration 100.",
        ),
        # A term that comes later, or was not finite and left no number.
        (
            [1.0, 1.0, 3.0],
            [None, None, 2.0],
            "The largest gradient never exceeded 100 times the smallest: at most it was 1.5 times "
            "as large, kl over gan at iteration 150.",
        ),
        (
            [1.0],
            [None, 1.0],
            "One term was measured at a time, so there is nothing to balance.",
        ),
        (
            [0.0, 1.0],
            [0.0, 1.0],
            "The largest gradient exceeded 100 times the smallest in 1 of 2 measurements, at "
            "iteration 50: gan had none at all at iteration 50.",
        ),
    ],
)
def test_sentence(kl, gan, sentence):
    found = balance_of(logged(kl, gan))
    assert found is not None
    assert (found.terms, found.threshold) == (["gan", "kl"], 100.0)
    assert found.sentence == sentence


def test_a_measurement_that_is_logged_again_counts_once():
    found = balance_of(logged([1.0, 900.0, 900.0, 900.0, 1.0], [1.0] * 5))
    assert found is not None
    assert "in 1 of 3 measurements, at iteration 100:" in found.sentence


def test_without_a_threshold_nothing_is_judged():
    found = balance_of(logged([2.0], [1.0], threshold=None))
    assert found is not None
    assert found.threshold is None
    assert found.sentence == (
        "Of the largest gradient and the smallest: at most it was 2 times as large, kl over gan "
        "at iteration 50."
    )


def test_a_run_that_logged_none_has_none(make_run):
    assert balance_of(load_run(make_run()).logged) is None
