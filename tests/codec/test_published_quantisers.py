"""Four faults of a published residual quantiser: properties that ours has and it lacks."""

from typing import Any

import pytest
import torch
from encodec.quantization.core_vq import ResidualVectorQuantization
from torch import Tensor

from kdlight.codec.quantization import ResidualVQ
from tests.codec.rank_runs import POISONED, one_rank, two_ranks

DIM, SIZE = 4, 8


class Ours:
    """A residual quantiser with moving averages, under names that both share."""

    names = ("codebook", "cluster_size", "cluster_sum")

    def __init__(self, n_q: int = 1) -> None:
        torch.manual_seed(0)
        self.module: Any = ResidualVQ(DIM, n_q, SIZE)

    def layer(self, level: int) -> Any:
        return self.module.layers[level]

    def averages(self, level: int = 0) -> list[Tensor]:
        """Codebook (K, D), sizes (K,) and sums (K, D), to read or to write."""
        return [getattr(self.layer(level), name) for name in self.names]

    def begin(self) -> None:
        self.layer(0).updates.fill_(1)

    def train_on(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, n_q, F) and the commitment loss, mean over levels."""
        made = self.module(latents)
        return made.codes, made.commitment_loss


class Published(Ours):
    names = ("embed", "cluster_size", "embed_avg")

    def __init__(self, n_q: int = 1) -> None:
        torch.manual_seed(0)
        self.module = ResidualVectorQuantization(num_quantizers=n_q, dim=DIM, codebook_size=SIZE)

    def layer(self, level: int) -> Any:
        return self.module.layers[level]._codebook

    def begin(self) -> None:
        self.layer(0).inited.fill_(1)

    def train_on(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        _, codes, losses = self.module(latents)
        return codes.transpose(0, 1), losses.mean()


def clusters(frames: int = 400) -> Tensor:
    """Latents (1, D, frames) in as many separated clusters as there are codes."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(SIZE, DIM, generator=generator) * 10
    chosen = torch.randint(SIZE, (frames,), generator=generator)
    return (centres[chosen] + torch.randn(frames, DIM, generator=generator) * 0.1).T[None]


def assert_the_first_update_keeps_the_kmeans_start(quantizer: Ours) -> None:
    """Every code stays at the mean of the frames that k-means gave it."""
    latents = clusters()
    codes = quantizer.train_on(latents)[0][0, 0]
    for code in codes.unique():
        mean = latents[0].T[codes == code].mean(dim=0)
        torch.testing.assert_close(quantizer.averages()[0][code], mean, rtol=1e-4, atol=1e-4)


def assert_a_dead_code_is_revived(quantizer: Ours) -> None:
    """A code that is far from all frames is among them after the update, and after the next."""
    latents = clusters()
    low, high = latents.min() - 1, latents.max() + 1
    codebook, size, total = quantizer.averages()
    with torch.no_grad():
        codebook.copy_(latents[0].T[:SIZE])
        codebook[-1] = 1000.0
        size.fill_(50)
        size[-1] = 0.5
        total.copy_(codebook * size[:, None])
    quantizer.begin()
    for _ in range(2):
        quantizer.train_on(latents)
        last = quantizer.averages()[0][-1]
        assert ((low < last) & (last < high)).all(), f"the dead code is at {last.tolist()}"
        nearest = (latents[0].T - last).square().sum(dim=1).min()
        assert nearest < 1, "the code is where no frame is"


def assert_the_commitment_of_every_level_reaches_the_latents(quantizer: Ours) -> None:
    """The gradient is the mean over levels of ``2 (z_k - q_k) / N``."""
    quantizer.train_on(clusters())
    codebooks = [quantizer.averages(level)[0].clone() for level in range(3)]
    latents = (clusters() + 0.3).requires_grad_()
    codes, loss = quantizer.train_on(latents)
    (gradient,) = torch.autograd.grad(loss, latents)
    left, expected = latents.detach(), []
    for level, codebook in enumerate(codebooks):
        left = left - codebook[codes[:, level]].transpose(1, 2)
        expected.append(2 * left / latents.numel())
    torch.testing.assert_close(gradient, torch.stack(expected).mean(dim=0), rtol=1e-4, atol=1e-7)


def assert_ranks_agree(name: str) -> None:
    """Two ranks hold the same bits after every batch, near to what one makes of the joint batch."""
    first, second, whole = (run[name] for run in (*two_ranks(), one_rank()))
    for a, b in zip(first[:POISONED], second[:POISONED], strict=True):
        assert all(torch.equal(value, b[key]) for key, value in a.items()), "ranks drifted apart"
    for a, one in zip(first[:POISONED], whole[:POISONED], strict=True):
        for key, value in one.items():
            torch.testing.assert_close(a[key], value, rtol=1e-4, atol=1e-4)


def test_the_first_update_keeps_the_kmeans_start_and_the_published_one_loses_it() -> None:
    assert_the_first_update_keeps_the_kmeans_start(Ours())
    with pytest.raises(AssertionError):
        assert_the_first_update_keeps_the_kmeans_start(Published())


def test_what_the_published_one_loses_is_the_size_of_the_cluster() -> None:
    published, latents = Published(), clusters()
    codes = published.train_on(latents)[0][0, 0]
    for code in codes.unique():
        mean, number = latents[0].T[codes == code].mean(dim=0), int((codes == code).sum())
        # One centroid in place of the cluster's sum, and a hundredth of this batch's.
        expected = mean * (0.99 + 0.01 * number) / number
        found = published.averages()[0][code]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_dead_code_is_revived_and_the_published_one_writes_it_back() -> None:
    assert_a_dead_code_is_revived(Ours())
    with pytest.raises(AssertionError, match="the dead code is at"):
        assert_a_dead_code_is_revived(Published())


def test_every_commitment_reaches_the_latents_and_the_published_ones_cancel() -> None:
    assert_the_commitment_of_every_level_reaches_the_latents(Ours(n_q=3))
    with pytest.raises(AssertionError):
        assert_the_commitment_of_every_level_reaches_the_latents(Published(n_q=3))


def test_the_published_commitment_is_that_of_the_first_level_alone() -> None:
    published = Published(n_q=3)
    published.train_on(clusters())
    first = published.averages()[0].clone()
    latents = (clusters() + 0.3).requires_grad_()
    codes, loss = published.train_on(latents)
    (gradient,) = torch.autograd.grad(loss, latents)
    left = latents.detach() - first[codes[:, 0]].transpose(1, 2)
    torch.testing.assert_close(gradient, 2 * left / latents.numel() / 3, rtol=1e-4, atol=1e-7)


def test_two_ranks_agree_and_the_published_ones_drift_apart() -> None:
    assert_ranks_agree("ours")
    with pytest.raises(AssertionError, match="ranks drifted apart"):
        assert_ranks_agree("published")
