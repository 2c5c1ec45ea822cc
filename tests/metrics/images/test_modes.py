import math
import warnings

import pytest
import torch

from datamodules.images.mixture import GaussianMixtureDataModule, ring
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.errors import InputError
from kdlight.metrics.images.generation import GenerationMetrics
from kdlight.metrics.images.modes import INSIDE, OUTSIDE, ModeCoverage, squared_reach

LINE = [[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]]


def figures(mixture, points, label=None):
    metric = ModeCoverage(mixture)
    for start in range(0, len(points), 3):
        part = slice(start, start + 3)
        metric.update(points[part], None if label is None else label[part])
    return {name: value.item() for name, value in metric.compute().items()}


def test_reach_in_the_plane_and_on_the_line():
    assert squared_reach(4.0, 2) == pytest.approx(16)
    # One dimension: P(|z| > r) = exp(-8), and r^2 is the square of a normal quantile.
    reach = math.sqrt(squared_reach(4.0, 1))
    assert math.erfc(reach / math.sqrt(2)) == pytest.approx(math.exp(-8))


def test_points_at_three_of_four_modes_and_one_stray():
    # Each mode's fair share is two samples and a half: one sample covers none, two do.
    points = torch.tensor([LINE[0]] * 4 + [LINE[1]] * 2 + [LINE[2]] * 2 + [LINE[3]] + [[0.0, 99.0]])
    found = figures(MixtureDenoiser(LINE, variances=1.0), points)
    assert found == {"modes": 0.75, "strays": 0.1, "non_finite": 0}


@pytest.mark.parametrize(
    ("away", "modes", "strays"), [(0.99, 1, 0), (1.01, 0, 0), (1.24, 0, 0), (1.26, 0, 1)]
)
def test_radii_are_in_standard_deviations_of_the_mode(away, modes, strays):
    assert OUTSIDE / INSIDE == 1.25
    mixture = MixtureDenoiser([[0.0, 0.0]], variances=0.25)
    points = torch.tensor([[away * INSIDE * 0.5, 0.0]] * 2)
    assert figures(mixture, points) == {"modes": modes, "strays": strays, "non_finite": 0}


def test_weights_and_labels_say_what_is_fair():
    uneven = MixtureDenoiser(LINE, variances=1.0, weights=[0.97, 0.01, 0.02, 0.0], labelled=True)
    points = torch.tensor([LINE[0]] * 98 + [LINE[1], LINE[2]])
    assert figures(uneven, points)["modes"] == 1.0, "the last has no weight"
    # Asked for by label: half of what was asked for has to lie there; 4 asks for any.
    label = torch.tensor([0] * 94 + [1] * 2 + [2] * 3 + [4])
    assert figures(uneven, points, label)["modes"] == pytest.approx(1 / 3)
    assert figures(uneven, points, torch.zeros(100, dtype=torch.long))["modes"] == 1.0


def test_exact_draws_cover_all_and_stray_as_rarely_as_the_law_says():
    mixture = ring()
    points, _ = mixture.draw(20_000, torch.Generator().manual_seed(0))
    found = figures(mixture, points[:6000])
    assert (found["modes"], found["strays"]) == (1.0, 0.0)
    wide = MixtureDenoiser(mixture.means.tolist(), variances=(1.5 * 0.03) ** 2)
    metric = ModeCoverage(mixture)
    metric.update(wide.draw(200_000, torch.Generator().manual_seed(1))[0])
    # Spread by half too much, beyond 5 lie those beyond 5 / 1.5 of their own deviations.
    expected = math.exp(-((5 / 1.5) ** 2) / 2)
    assert metric.compute()["strays"].item() == pytest.approx(expected, rel=0.1)


def test_another_dimension_is_named():
    with pytest.raises(InputError, match=r"points: expected the mixture's shape \(2,\), found"):
        ModeCoverage(ring()).update(torch.zeros(4, 3))


def test_row_of_points_holds_modes_and_precision_with_floors():
    data = GaussianMixtureDataModule(ring(), num_samples=2000, num_heldout=600)
    reference, held_out = data.one_pass("reference"), data.one_pass("heldout")
    metrics = GenerationMetrics(reference, held_out, judges=data.judges())
    exact = data.mixture.draw(500, torch.Generator().manual_seed(5))[0]
    rows = []
    for points in (exact, exact[exact[:, 0] > 0], exact + 0.2):
        metrics.update(points)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torchmetrics warns of a row without samples
            rows.append(metrics.row())
    good, lost, shifted = rows
    assert (good["modes"], good["strays"]) == (1.0, 0.0)
    for name in ("precision", "recall"):
        assert good[name] == pytest.approx(good[f"{name}_floor"], abs=0.05)
        assert good[f"{name}_floor"] == shifted[f"{name}_floor"]
    assert lost["precision"] > 0.9
    assert lost["recall"] == pytest.approx(0.5, abs=0.1)
    assert lost["modes"] == pytest.approx(0.5, abs=0.13)
    assert (shifted["modes"], shifted["strays"], shifted["precision"]) == (0.0, 1.0, 0.0)
    assert "modes" not in GenerationMetrics(reference, held_out).row()
