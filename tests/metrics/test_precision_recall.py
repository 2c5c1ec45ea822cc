import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.extractors import PixelFeatures
from kdlight.metrics.precision_recall import PrecisionRecall, precision_recall


def covered(samples, centres, k):
    inside = 0
    for sample in samples:
        for i, centre in enumerate(centres):
            others = sorted(float((centre - c).norm()) for j, c in enumerate(centres) if j != i)
            if float((sample - centre).norm()) <= others[k - 1]:
                inside += 1
                break
    return inside / len(samples)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("chunk", [7, 2048])
def test_against_loops(k, chunk):
    generated = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()
    real = 1 + torch.randn(25, 2, generator=torch.Generator().manual_seed(1)).double()
    precision, recall = precision_recall(generated, real, k, chunk)
    assert precision.item() == pytest.approx(covered(generated, real, k))
    assert recall.item() == pytest.approx(covered(real, generated, k))
    assert 0 < precision < 1
    assert 0 < recall < 1


def test_lost_modes_lower_recall_and_stray_samples_lower_precision():
    generator = torch.Generator().manual_seed(2)
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]])
    real = centres.repeat(50, 1) + torch.randn(200, 2, generator=generator)
    lost = centres[:1].repeat(200, 1) + torch.randn(200, 2, generator=generator)
    precision, recall = precision_recall(lost, real)
    assert precision > 0.9
    assert recall == pytest.approx(0.25, abs=0.03)
    stray = torch.cat([real[:100], torch.full((100, 2), 500.0)])
    assert precision_recall(stray, real)[0].item() == 0.5


def test_copies_of_the_real_set_are_all_inside_even_with_duplicates():
    real = torch.randn(20, 64).repeat(5, 1) + 100
    assert [value.item() for value in precision_recall(real.clone(), real)] == [1.0, 1.0]


def test_too_few_samples_for_k_give_nan():
    metric = PrecisionRecall(PixelFeatures((2,)), k=3)
    metric.update(torch.randn(3, 2), real=True)
    metric.update(torch.randn(9, 2), real=False)
    assert metric.compute()["recall"].isnan()
    with pytest.raises(InputError, match="k: expected at least 1"):
        PrecisionRecall(PixelFeatures((2,)), k=0)
