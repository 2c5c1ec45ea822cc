import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.images.neighbours import NearestNeighbour, nearest_distance


def test_nearest_distance_against_loops_and_exactly_zero_for_copies():
    references = 100 + torch.randn(60, 1, 4, 4)
    samples = torch.cat([100 + torch.randn(10, 1, 4, 4), references[:5]])
    expected = [min(float((s.double() - r).norm()) for r in references) for s in samples]
    for chunk in (7, 2048):
        found = nearest_distance(samples, references, chunk)
        assert found.tolist() == pytest.approx(expected, rel=1e-9)
        assert (found[10:] == 0).all()


def ratio(samples, train, held_out):
    metric = NearestNeighbour(train, held_out)
    for batch in samples.split(64):
        metric.update(batch)
    return {name: value.item() for name, value in metric.compute().items()}


def test_copies_of_the_training_set_have_ratio_below_an_honest_generator():
    generator = torch.Generator().manual_seed(0)
    train, held_out, fresh = torch.randn(1700, 6, generator=generator).split([900, 400, 400])
    honest, copies = ratio(fresh, train, held_out), ratio(train[:400], train, held_out)
    assert honest["memorisation"] == pytest.approx(1, abs=0.04)
    # Two complete parts of 400 of 900: a copy is in a given part with probability 4/9, and about
    # a fresh point's distance away from the others.
    assert copies["memorisation"] == pytest.approx(5 / 9, abs=0.05)
    assert copies["nearest"] == 0
    assert honest["nearest"] == pytest.approx(nearest_distance(fresh, train).mean().item())


def test_ratio_by_hand_and_the_larger_set_may_be_either():
    train, held_out = torch.tensor([[0.0], [10.0]]), torch.tensor([[4.0]])
    samples = torch.tensor([[1.0], [3.0]])
    # Parts {0} and {10}: (1 + 9) / 2 and (3 + 7) / 2 over 3 and 1.
    result = ratio(samples, train, held_out)
    assert result == {"nearest": 2.0, "memorisation": 2.5, "non_finite": 0}
    assert ratio(samples, held_out, train)["memorisation"] == pytest.approx(0.4)


def test_shapes_are_checked():
    with pytest.raises(InputError, match="held_out: expected samples like"):
        NearestNeighbour(torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 4, 4))
    with pytest.raises(InputError, match="images: expected samples of shape"):
        NearestNeighbour(torch.zeros(4, 2), torch.zeros(4, 2)).update(torch.zeros(4, 3))
