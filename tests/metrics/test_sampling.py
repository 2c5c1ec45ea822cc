import torch

from kdlight.metrics.sampling import RowSample, keyed, subset, unkeyed


def rows(count, width=3, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_subset_does_not_depend_on_order_batches_or_ranks():
    everything = rows(500)
    expected = unkeyed(subset(keyed(everything), 20))
    for order, batch in ((torch.randperm(500), 7), (torch.arange(500), 500)):
        sample = RowSample(20)
        for part in everything[order].split(batch):
            sample.add(part)
        assert torch.equal(sample.rows(), expected)
    ranks = [subset(keyed(everything[rank::3]), 20) for rank in range(3)]
    assert torch.equal(unkeyed(subset(torch.cat(ranks), 20)), expected)


def test_fewer_rows_are_all_there_in_their_order():
    sample = RowSample(20)
    for part in rows(20).split(3):
        sample.add(part)
    assert torch.equal(sample.rows(), rows(20))


def test_never_more_than_twice_the_subset_is_held():
    sample = RowSample(20)
    for part in rows(5000).split(10):
        sample.add(part)
        assert sum(len(kept) for kept in sample._parts) < 40


def test_every_row_is_as_likely_as_any_other():
    """Half of 20,000 sorted numbers: mean and rank correlation of what is kept, to 4 sigma."""
    numbers = torch.linspace(-1, 1, 20_000)[:, None]
    kept = unkeyed(subset(keyed(numbers), 10_000))
    sigma = (1 / 3 / 10_000 * 0.5) ** 0.5  # of the mean of half of a finite set
    assert abs(kept.mean()) < 4 * sigma
    assert abs(torch.corrcoef(torch.stack([kept[:, 0], torch.arange(10_000.0)]))[0, 1]) < 0.04
