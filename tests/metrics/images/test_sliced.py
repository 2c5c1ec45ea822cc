import pytest
import scipy.stats
import torch

from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.errors import InputError
from kdlight.metrics.images.sliced import (
    SlicedWasserstein,
    directions,
    resampled_floor,
    sliced_floor,
    sliced_wasserstein,
    wasserstein_1d,
)


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 35), (3, 100)])
def test_one_dimension_agrees_with_scipy(n, m):
    a, b = torch.randn(n, 1).double(), 1 + 2 * torch.randn(m, 1).double()
    expected = scipy.stats.wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert wasserstein_1d(a, b, p=1).item() == pytest.approx(expected, rel=1e-9)
    assert sliced_wasserstein(a, b, p=1).item() == pytest.approx(expected, rel=1e-9)


def test_unequal_sizes_equal_the_sets_repeated_to_one_size():
    a, b = torch.randn(6, 3), torch.randn(4, 3)
    repeated = wasserstein_1d(a.repeat(2, 1), b.repeat(3, 1))
    assert wasserstein_1d(a, b).tolist() == pytest.approx(repeated.tolist(), rel=1e-12)


@pytest.mark.parametrize("dimension", [2, 3, 8])
def test_translation_has_its_closed_form(dimension):
    # Mean over the sphere of <theta, m>^2 is |m|^2 / d, and exactly so over orthonormal bases.
    points = torch.randn(200, dimension).double()
    shift = torch.arange(1.0, dimension + 1).double()
    found = sliced_wasserstein(points, points + shift, projections=24)
    assert found.item() == pytest.approx(shift.norm().item() / dimension**0.5, rel=1e-9)


def test_scaling_has_its_closed_form():
    # Scaling by s moves a centred point set by |s - 1| times its projected second moment.
    points = torch.randn(500, 2).double()
    found = sliced_wasserstein(points, 3 * points, projections=64)
    assert found.item() == pytest.approx(2 * (points.square().sum(1).mean() / 2).sqrt().item())


def test_directions_are_unit_and_fixed():
    lines = directions(5, 12)
    assert lines.shape == (12, 5)
    assert torch.allclose(lines[:5] @ lines[:5].T, torch.eye(5).double(), atol=1e-12)
    assert torch.equal(lines, directions(5, 12))
    assert not torch.equal(lines, directions(5, 12, seed=1))
    # Uniform on the circle: the second moment is isotropic and the first vanishes.
    many = directions(2, 20_000)
    assert torch.allclose(many.mean(0), torch.zeros(2).double(), atol=0.02)


def test_floor_falls_as_one_over_the_root_of_the_count_and_bounds_a_perfect_sampler():
    oracle = MixtureDenoiser(means=[[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]], variances=0.01)

    def draw(count, generator):
        return oracle.draw(count, generator)[0]

    small, large = sliced_floor(draw, 250), sliced_floor(draw, 4000)
    assert small / large == pytest.approx(4, rel=0.5)
    metric = SlicedWasserstein(2)
    generator = torch.Generator().manual_seed(5)
    metric.update(draw(4000, generator), real=True)
    metric.update(draw(4000, generator), real=False)
    assert metric.compute()["distance"] < 2.5 * large
    options = {"repeats": 64, "projections": 16}
    against_many = sliced_floor(draw, 250, reference_count=1000, **options)
    # The variances of the two sets add up: 1/250 + 1/1000 against 2/250.
    expected = (5 / 8) ** 0.5
    assert against_many / sliced_floor(draw, 250, **options) == pytest.approx(expected, rel=0.2)


def test_resampled_floor_is_that_of_fresh_sets_and_blind_to_order():
    points = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    found = resampled_floor(points, 500, projections=16, repeats=64)
    expected = sliced_floor(
        lambda count, generator: torch.randn(count, 2, generator=generator),
        500, reference_count=2000, projections=16, repeats=64,
    )  # fmt: skip
    assert found / expected == pytest.approx(1, rel=0.2)
    assert torch.equal(found, resampled_floor(points.flip(0), 500, projections=16, repeats=64))


def test_metric_has_the_floor_of_its_sizes_and_forgets_it_with_the_reference():
    metric = SlicedWasserstein(2, projections=8)
    for scale in (1.0, 5.0):
        points = scale * torch.randn(300, 2, generator=torch.Generator().manual_seed(2))
        metric.update(points, real=True)
        metric.update(points[:100], real=False)
        assert torch.equal(metric.compute()["floor"], resampled_floor(points, 100, projections=8))
        metric.reset()


def test_order_must_be_one_or_two():
    with pytest.raises(InputError, match="p: expected 1 or 2, found 3"):
        SlicedWasserstein(2, p=3)
