import pytest
import torch

from kdlight.metrics.images.extractors import PixelFeatures
from kdlight.metrics.images.variance import VarianceRatio


def test_ratio_of_total_variances():
    real, generated = 5 + torch.randn(300, 1, 4, 4), torch.rand(200, 1, 4, 4)
    metric = VarianceRatio(PixelFeatures((1, 4, 4)))
    for batch in real.split(70):
        metric.update(batch, real=True)
    metric.update(generated, real=False)
    expected = generated.var(0).sum() / real.var(0).sum()
    assert metric.compute()["variance"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_shrinking_towards_the_mean_shows_as_its_square():
    real = torch.randn(100, 2)
    metric = VarianceRatio(PixelFeatures((2,)))
    metric.update(real, real=True)
    metric.update(3 + 0.9 * real, real=False)
    assert metric.compute()["variance"].item() == pytest.approx(0.81, rel=1e-5)
