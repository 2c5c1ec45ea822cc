import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.images.extractors import PixelFeatures
from kdlight.metrics.images.precision_recall import (
    EqualPrecisionRecall,
    PrecisionRecall,
    precision_recall,
)


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


def equal(held_out, **settings):
    return EqualPrecisionRecall(PixelFeatures((2,)), held_out, **settings)


def points(count, seed):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def test_equal_numbers_with_the_held_out_points_as_floor():
    real, held_out, generated = points(40, 0), points(40, 1) + 0.5, points(40, 2) + 1
    metric = equal(held_out)
    metric.update(real[:11], real=True)
    metric.update(real[11:], real=True)
    metric.update(generated, real=False)
    found = metric.compute()
    for name, rows in (("", generated), ("_floor", held_out)):
        precision, recall = precision_recall(rows, real)
        assert found[f"precision{name}"].item() == precision.item()
        assert found[f"recall{name}"].item() == recall.item()


@pytest.mark.parametrize(("counts", "settings"), [((30, 90, 90), {}), ((90, 90, 30), {})])
def test_all_sets_are_cut_to_the_smallest(counts, settings):
    """Uncut, the larger set's spheres would be smaller and its figure another."""
    real, held_out, generated = (points(count, seed) for seed, count in enumerate(counts))
    metric = equal(held_out, **settings)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    sizes = metric._sizes()
    assert sizes == (30, counts[0])
    found = metric.compute()
    assert all(0.5 < found[name] <= 1 for name in metric.names)
    # A multiple of 1 / 30 each.
    assert all(
        float(found[name] * 30) == pytest.approx(round(float(found[name] * 30)))
        for name in metric.names
    )


def test_max_rows_bounds_the_comparison_and_order_does_not_matter():
    real, held_out, generated = (points(60, seed) for seed in range(3))
    results = []
    for order in (torch.arange(60), torch.arange(60).flip(0)):
        metric = equal(held_out, max_rows=20)
        metric.update(real[order], real=True)
        metric.update(generated[order], real=False)
        assert metric._sizes() == (20, 20)
        results.append(metric.compute())
    assert results[0] == results[1]


def test_floors_are_made_once_and_go_with_the_reference(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "kdlight.metrics.images.precision_recall.precision_recall",
        lambda *arguments: calls.append(1) or precision_recall(*arguments),
    )
    metric = equal(points(20, 0), keep_reference=True)
    metric.update(points(20, 1), real=True)
    for seed in (2, 3):
        metric.update(points(20, seed), real=False)
        metric.compute()
        metric.reset()
    assert len(calls) == 3


def test_too_few_held_out_points_are_named():
    with pytest.raises(InputError, match="held_out: expected more than k = 3, found 3"):
        equal(points(3, 0))
    with pytest.raises(InputError, match="max_rows: expected more than k = 3, found 2"):
        equal(points(9, 0), max_rows=2)
