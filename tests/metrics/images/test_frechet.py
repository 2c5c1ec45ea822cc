import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from kdlight.metrics.images.extractors import ClassifierFeatures, PixelFeatures
from kdlight.metrics.images.frechet import FrechetDistance, frechet_distance, frechet_floor
from kdlight.networks.images.classifier import SmallClassifier


def gaussian(count, width, seed, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator) / width**0.5
    return scale * torch.randn(count, width, generator=generator) @ mix + shift


def test_closed_form_of_commuting_gaussians():
    var1, var2 = torch.tensor([1.0, 4.0, 0.0]), torch.tensor([9.0, 0.25, 0.0])
    mean = torch.tensor([1.0, -2.0, 0.5])
    # |m|^2 + sum (s1 - s2)^2 = 5.25 + 4 + 2.25
    found = frechet_distance(torch.zeros(3), var1.diag(), mean, var2.diag())
    assert found.item() == pytest.approx(11.5, abs=1e-12)


def test_agrees_with_sqrtm():
    a, b = gaussian(500, 12, 0).double().numpy(), gaussian(400, 12, 1, 1.5, 0.3).double().numpy()
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    found = frechet_distance(
        *(torch.from_numpy(value) for value in (a.mean(0), cov_a, b.mean(0), cov_b))
    )
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [3, 20, 300])
def test_equal_sets_are_at_distance_zero_even_if_singular(count):
    points = gaussian(count, 64, 2).double()
    points[:, 10:20] = 7.0  # dead pixels
    mean, cov = points.mean(0), torch.cov(points.T)
    assert frechet_distance(mean, cov, mean, cov).item() < 1e-9 * cov.trace()


def test_singular_covariances_on_different_subspaces():
    # Rank one each: tr sqrt(C1 C2) = |<u, v>| with C1 = u u^T and C2 = v v^T.
    u, v = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([1.0, 0.0, 1.0])
    zero = torch.zeros(3)
    found = frechet_distance(zero, torch.outer(u, u), zero, torch.outer(v, v))
    assert found.item() == pytest.approx(25 + 2 - 2 * 3, abs=1e-9)


def test_agrees_with_torchmetrics_on_a_custom_network():
    features = ClassifierFeatures(SmallClassifier())
    features.num_features = 64
    real, generated = torch.rand(300, 1, 8, 8) * 2 - 1, torch.randn(250, 1, 8, 8) * 0.5
    theirs = FrechetInceptionDistance(feature=features, normalize=True)
    theirs.set_dtype(torch.float64)
    ours = FrechetDistance(features)
    for metric in (theirs, ours):
        metric.update(real[:100], real=True)
        metric.update(real[100:], real=True)
        metric.update(generated, real=False)
    # torchmetrics takes square roots of eigenvalues that are zero up to rounding.
    assert ours.compute()["distance"].item() == pytest.approx(theirs.compute().item(), rel=1e-5)


def test_percent_and_floor_do_not_depend_on_the_scale_of_the_features():
    real, generated = gaussian(400, 5, 3), gaussian(300, 5, 3, 1.1, 0.1)
    results = []
    for scale in (1.0, 64.0):
        metric = FrechetDistance(PixelFeatures((5,)))
        metric.update(scale * real, real=True)
        metric.update(scale * generated, real=False)
        results.append(metric.compute())
    for name in ("percent", "floor"):
        assert results[0][name].item() == pytest.approx(results[1][name].item(), rel=1e-5)
    expected = 100 * results[0]["distance"] / torch.cov(real.double().T).trace()
    assert results[0]["percent"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_floor_is_what_resampled_real_images_score():
    real = gaussian(500, 6, 4)
    floor = frechet_floor(real, 200, draws=30)
    scores = []
    for seed in range(30):
        drawn = real[torch.randint(500, (200,), generator=torch.Generator().manual_seed(seed + 99))]
        metric = FrechetDistance(PixelFeatures((6,)), floor_draws=0)
        metric.update(real, real=True)
        metric.update(drawn, real=False)
        scores.append(metric.compute()["percent"])
    assert floor.item() == pytest.approx(torch.stack(scores).mean().item(), rel=0.25)
    assert frechet_floor(real, 2000) < floor / 4
    shuffled = real[torch.randperm(500)]
    assert frechet_floor(shuffled, 200).item() == pytest.approx(
        frechet_floor(real, 200).item(), rel=1e-9
    )


def test_without_draws_no_floor_and_no_kept_features():
    metric = FrechetDistance(PixelFeatures((4,)), floor_draws=0)
    metric.update(gaussian(20, 4, 0), real=True)
    metric.update(gaussian(20, 4, 1), real=False)
    assert set(metric.compute()) == {"distance", "percent", "non_finite"}
    assert "real_rows" not in metric._defaults


def test_a_constant_generator_scores_the_variance_it_lost():
    real = gaussian(1000, 5, 5)
    metric = FrechetDistance(PixelFeatures((5,)))
    metric.update(real, real=True)
    metric.update(real.mean(0).expand(10, 5), real=False)
    assert metric.compute()["percent"].item() == pytest.approx(100, rel=1e-4)
