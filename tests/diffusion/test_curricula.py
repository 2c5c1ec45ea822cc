"""Curricula, index laws and target decays against hand values."""

import itertools
import math

import pytest
import torch

from kdlight.diffusion.curricula import (
    AdaptiveDecay,
    ConstantCurriculum,
    ConstantDecay,
    DoublingCurriculum,
    LogNormalIndex,
    SquareRootCurriculum,
    UniformIndex,
)
from kdlight.diffusion.sigmas import KarrasGrid, LogStudentNoise, PrefixGrid
from kdlight.errors import InputError


# s0 = 2, s1 = 150, K = 800,000 (CIFAR-10): N = ceil(sqrt(k/K (151^2 - 4) + 4) - 1) + 1.
@pytest.mark.parametrize(
    ("k", "n"),
    [(0, 2), (1, 3), (200_000, 76), (400_000, 107), (600_000, 131), (799_999, 151), (800_000, 151)],
)
def test_square_root_curriculum(k: int, n: int) -> None:
    assert SquareRootCurriculum(2, 150).levels(k, 800_000) == n


# s0 = 10, s1 = 1280, K = 400,000: K' = floor(400,000 / (log2 128 + 1)) = 50,000.
@pytest.mark.parametrize(
    ("k", "n"),
    [
        (0, 11),
        (49_999, 11),
        (50_000, 21),
        (100_000, 41),
        (150_000, 81),
        (200_000, 161),
        (250_000, 321),
        (300_000, 641),
        (350_000, 1281),
        (399_999, 1281),
        (4_000_000, 1281),
    ],
)
def test_doubling_curriculum(k: int, n: int) -> None:
    assert DoublingCurriculum(10, 1280).levels(k, 400_000) == n


def test_doubling_without_doubling_is_constant() -> None:
    assert {DoublingCurriculum(20, 20).levels(k, 7) for k in range(7)} == {21}
    assert ConstantCurriculum(18).levels(3, 7) == 18


def test_a_curriculum_never_falls_and_ends_at_its_end() -> None:
    for curriculum, end in ((SquareRootCurriculum(3, 40), 41), (DoublingCurriculum(4, 50), 51)):
        counts = [curriculum.levels(k, 997) for k in range(997)]
        assert counts == sorted(counts)
        assert min(counts) >= 2
        assert counts[-1] == end


# exp(s0 log mu0 / N) with s0 = 2 and mu0 = 0.9.
@pytest.mark.parametrize(("n", "mu"), [(2, 0.9), (11, 0.98102586), (151, 0.99860547)])
def test_adaptive_decay(n: int, mu: float) -> None:
    assert AdaptiveDecay(2, 0.9).decay(n) == pytest.approx(mu, abs=5e-9)
    assert ConstantDecay(0.95).decay(n) == 0.95


def test_log_normal_index_against_the_error_function() -> None:
    levels = torch.tensor([0.002, 0.1, 1.0, 80.0], dtype=torch.float64)
    bounds = [math.erf((math.log(level) + 1.1) / (math.sqrt(2) * 2.0)) for level in levels]
    mass = [high - low for low, high in itertools.pairwise(bounds)]
    expected = torch.tensor([m / sum(mass) for m in mass], dtype=torch.float64)
    found = LogNormalIndex(-1.1, 2.0).probabilities(levels)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    # The standard normal at the bounds -2.557299, -0.601293, 0.55, 2.741013.
    torch.testing.assert_close(
        found, torch.tensor([0.27093, 0.43892, 0.29015]).double(), rtol=0, atol=6e-4
    )


def test_drawn_indices_follow_their_probabilities() -> None:
    levels = KarrasGrid(0.002, 80.0).sigmas(11)[:-1].flip(0)
    for law in (LogNormalIndex(-1.1, 2.0), UniformIndex()):
        uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
        counts = torch.bincount(law(levels, uniform), minlength=10).double() / 100_000
        torch.testing.assert_close(counts, law.probabilities(levels), rtol=0, atol=2e-5)
        ends = law(levels, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
        assert ends.tolist() == [0, 9]


def test_log_student_noise_is_the_quantile_function_of_the_truncated_law() -> None:
    from scipy.stats import t as student

    law = LogStudentNoise(1.0, 80.0, 0.0, 0.2, 3.0)
    uniform = torch.linspace(0, 1, 11, dtype=torch.float64)
    low, high = (student.cdf(math.log(level) / 0.2, 3.0) for level in (1.0, 80.0))
    share = (student.cdf(law(uniform).log().numpy() / 0.2, 3.0) - low) / (high - low)
    torch.testing.assert_close(torch.from_numpy(share), uniform, rtol=0, atol=1e-9)
    # Heavy tails: with 0.01 degrees of freedom a tenth of the draws is above 10.
    assert LogStudentNoise(1.0, 80.0)(torch.tensor([0.0, 0.9, 1.0])).tolist() == pytest.approx(
        [1.0, 10.4444, 80.0], rel=1e-4
    )


def test_prefix_grid() -> None:
    grid = PrefixGrid([80.0, 1.0, 0.3])
    assert grid.longest == 3
    assert grid.sigmas(1).tolist() == [80.0, 0.0]
    assert grid.sigmas(3).tolist() == [80.0, 1.0, 0.3, 0.0]
    with pytest.raises(InputError, match="at most 3"):
        grid.sigmas(4)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ConstantCurriculum(1), "count: expected at least 2 noise levels"),
        (lambda: SquareRootCurriculum(1, 5), "s0: expected at least 2 noise levels"),
        (lambda: SquareRootCurriculum(5, 4), r"s1: expected at least s0 \(5\), found 4"),
        (lambda: DoublingCurriculum(0, 4), "s0: expected at least 2 noise levels"),
        (lambda: DoublingCurriculum(8, 4), r"s1: expected at least s0 \(8\), found 4"),
        (lambda: LogNormalIndex(0.0, 0.0), "std: expected a number above 0"),
        (lambda: ConstantDecay(1.0), r"mu: expected a number in \[0, 1\)"),
        (lambda: AdaptiveDecay(2, 0.0), r"mu0: expected a number in \(0, 1\)"),
        (lambda: PrefixGrid([1.0, 2.0]), "levels: expected falling"),
        (lambda: PrefixGrid([]), "levels: expected falling"),
        (lambda: LogStudentNoise(2.0, 1.0), "sigma_min: expected"),
        (lambda: LogStudentNoise(freedom=0.0), "freedom: expected a number above 0"),
    ],
)
def test_bad_settings_are_refused(make, match) -> None:
    with pytest.raises(InputError, match=match):
        make()
