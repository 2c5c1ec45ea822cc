"""The vector of who speaks: blind to order, to padding and to what is masked."""

import torch

from kdlight.networks.speech.speaker import AttentiveStatistics, SpeakerExtractor


def extractor(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpeakerExtractor(6, 4, 8, **kwargs).double()


def test_statistics_do_not_know_the_order_of_frames():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pooling = AttentiveStatistics(6, 5).double()
    frames = torch.randn(2, 9, 6, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    order = torch.randperm(9)
    torch.testing.assert_close(pooling(frames[:, order], mask), pooling(frames, mask))
    # Equal weights give the plain mean and deviation.
    for parameter in pooling.parameters():
        parameter.data.zero_()
    plain = torch.cat([frames.mean(1), frames.std(1, correction=0)], dim=1)
    torch.testing.assert_close(pooling(frames, mask), plain)


def test_padding_and_masked_frames_change_nothing():
    frames = torch.randn(2, 9, 6, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    one = extractor(layers=3)
    expected = one(frames, mask)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(2, dtype=torch.float64))
    padded = torch.cat([frames, torch.full((2, 50, 6), torch.nan, dtype=torch.float64)], dim=1)
    longer = torch.cat([mask, torch.zeros(2, 50, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(one(padded, longer), expected, rtol=0, atol=1e-14)


def test_no_frame_that_counts_gives_finite_gradients():
    one = extractor()
    frames = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    one(frames, torch.zeros(2, 5, dtype=torch.bool)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in one.parameters())
