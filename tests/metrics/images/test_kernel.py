import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from kdlight.metrics.images.extractors import PixelFeatures
from kdlight.metrics.images.kernel import KernelDistance, squared_mmd


def test_against_a_loop_over_all_pairs():
    a, b = torch.randn(7, 3).double(), 0.5 + torch.randn(5, 3).double()

    def k(x, y):
        return float((x @ y / 3 + 1) ** 3)

    within_a = sum(k(a[i], a[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_b = sum(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(k(x, y) for x in a for y in b) / 35
    expected = within_a + within_b - 2 * across
    assert squared_mmd(a, b).item() == pytest.approx(expected, rel=1e-12)
    assert squared_mmd(a, b, chunk=2).item() == pytest.approx(expected, rel=1e-12)


def test_agrees_with_torchmetrics_on_one_subset_of_everything():
    real, generated = torch.randn(600, 16), 0.2 + 1.1 * torch.randn(600, 16)
    features = PixelFeatures((16,))
    theirs = KernelInceptionDistance(feature=features, subsets=1, subset_size=600)
    ours = KernelDistance(features)
    for metric in (theirs, ours):
        metric.update(real, real=True)
        metric.update(generated, real=False)
    assert ours.compute()["distance"].item() == pytest.approx(theirs.compute()[0].item(), rel=1e-3)


def test_unbiased_around_zero_for_one_distribution():
    generator = torch.Generator().manual_seed(0)
    values = torch.stack(
        [
            squared_mmd(
                torch.randn(40, 4, generator=generator), torch.randn(60, 4, generator=generator)
            )
            for _ in range(200)
        ]
    )
    assert values.min() < 0 < values.max()
    assert abs(values.mean()) < 3 * values.std() / 200**0.5
