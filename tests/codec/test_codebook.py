"""Moving-average codebooks: nearest codes, averages by hand, start, revival, resume."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.codec.codebook import MovingAverageCodebook, cluster_statistics, kmeans, nearest
from kdlight.errors import InputError


def make(dim: int = 4, size: int = 8, **kwargs: Any) -> MovingAverageCodebook:
    settings = {"decay": 0.99, "expire_below": 0.1, "kmeans_iterations": 20, "seed": (0, 0)}
    return MovingAverageCodebook(dim, size, **(settings | kwargs))


def begun(rows: list[float], uses: list[float], **kwargs: Any) -> MovingAverageCodebook:
    """A codebook of one channel that has seen data."""
    codebook = make(1, len(rows), **kwargs)
    codebook.codebook.copy_(torch.tensor(rows)[:, None])
    codebook.cluster_size.copy_(torch.tensor(uses))
    codebook.cluster_sum.copy_(codebook.codebook * codebook.cluster_size[:, None])
    codebook.updates.fill_(1)
    return codebook


def clusters(count: int, each: int, dim: int = 4, spread: float = 0.01) -> Tensor:
    """Latents (1, dim, count * each) around well separated centres."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(count, dim, generator=generator) * 10
    frames = centres.repeat_interleave(each, dim=0)
    frames = frames + torch.randn(frames.shape, generator=generator) * spread
    return frames[torch.randperm(len(frames), generator=generator)].T[None].contiguous()


def row(*values: float) -> Tensor:
    return torch.tensor(values)[None, None]


def state(codebook: MovingAverageCodebook) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in codebook.state_dict().items()}


def test_nearest_is_what_trying_every_code_finds() -> None:
    torch.manual_seed(0)
    frames, rows = torch.randn(500, 6), torch.randn(64, 6)
    distance = (frames.double()[:, None] - rows.double()).square().sum(dim=2)
    assert torch.equal(nearest(frames, rows), distance.argmin(dim=1))


def test_autocast_takes_no_code_for_another() -> None:
    torch.manual_seed(0)
    codebook = make(16, 256)
    latents = torch.randn(2, 16, 100)
    codes = codebook.encode(latents)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebook.encode(latents), codes)
        assert torch.equal(codebook.eval()(latents)[1], codes)


def test_codes_decode_to_their_rows() -> None:
    codebook = make()
    codes = torch.tensor([[3, 0, 7], [1, 1, 2]])
    vectors = codebook.decode(codes)
    assert vectors.shape == (2, 4, 3)
    assert torch.equal(vectors[1, :, 2], codebook.codebook[2])
    assert torch.equal(codebook.encode(vectors), codes)


def test_averages_have_the_values_worked_out_by_hand() -> None:
    codebook = begun([0.0, 10.0], [2.0, 2.0], decay=0.5, expire_below=0.0)
    for frames, size, total, rows in [
        # Codes 0 0 1 1 1: 2 and 3 frames with sums 4 and 33.
        (row(1, 3, 9, 11, 13), [2.0, 2.5], [2.0, 26.5], [1.0, 10.6]),
        (row(1, 1, 1, 12), [2.5, 1.75], [2.5, 19.25], [1.0, 11.0]),
        # No frame for code 1: both its averages halve and it stays.
        (row(5), [1.75, 0.875], [3.75, 9.625], [15 / 7, 11.0]),
    ]:
        codebook(frames)
        torch.testing.assert_close(codebook.cluster_size, torch.tensor(size))
        torch.testing.assert_close(codebook.cluster_sum[:, 0], torch.tensor(total))
        torch.testing.assert_close(codebook.codebook[:, 0], torch.tensor(rows))
    assert codebook.updates == 4


def test_a_batch_is_quantised_before_it_moves_the_codes() -> None:
    codebook = begun([0.0, 10.0], [1.0, 1.0], decay=0.0)
    quantized, codes = codebook(row(4, 12))
    assert codes.tolist() == [[0, 1]]
    assert quantized.flatten().tolist() == [0, 10]
    assert codebook.codebook[:, 0].tolist() == [4, 12]


def test_kmeans_ends_at_the_means_of_its_clusters() -> None:
    samples = clusters(6, 30, spread=1.0)[0].T
    centroids, counts = kmeans(samples, 10, 50, torch.Generator().manual_seed(0))
    size, total = cluster_statistics(samples, nearest(samples, centroids), 10)
    assert torch.equal(size, counts)
    assert counts.sum() == len(samples)
    torch.testing.assert_close((centroids * counts[:, None])[size > 0], total[size > 0])


def test_kmeans_with_more_clusters_than_samples_has_them_all() -> None:
    samples = torch.tensor([[0.0], [1.0], [5.0]])
    centroids, counts = kmeans(samples, 7, 5, torch.Generator().manual_seed(0))
    assert set(centroids.flatten().tolist()) == {0, 1, 5}, "an empty cluster keeps its centroid"
    assert sorted(counts.tolist()) == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_first_update_keeps_the_start_on_separated_clusters(seed: int) -> None:
    latents = clusters(8, 40, spread=0.3)
    codebook = make(expire_below=0.0, kmeans_iterations=50, seed=(seed,))
    _, codes = codebook(latents)
    assert codebook.updates == 1
    for code in codes.unique():
        mean = latents[0].T[codes[0] == code].mean(dim=0)
        torch.testing.assert_close(codebook.codebook[code], mean, rtol=1e-5, atol=1e-5)


def test_the_first_update_moves_a_start_without_clusters_by_the_decay_at_most() -> None:
    torch.manual_seed(0)
    latents = torch.randn(1, 4, 400)
    codebook = make(kmeans_iterations=1, expire_below=0.0)
    start, counts = kmeans(latents[0].T, 8, 1, codebook._draws())
    _, codes = codebook(latents)
    size, total = cluster_statistics(latents[0].T, codes[0], 8)
    means = total / size[:, None]
    # One step of size 1 - decay from the start to the means of this batch.
    share = 0.01 * size / (0.99 * counts + 0.01 * size)
    expected = start + share[:, None] * (means - start)
    torch.testing.assert_close(codebook.codebook, expected)
    assert (codebook.codebook - start).abs().max() < 0.03


def test_a_dead_code_becomes_a_frame_and_outlives_the_next_update() -> None:
    codebook = begun([0.0, 1000.0], [50.0, 0.5])
    codebook(row(-1, 1, 3, 5))
    revived = float(codebook.codebook[1])
    assert revived in (-1, 1, 3, 5)
    assert codebook.cluster_size[1] == pytest.approx(float(codebook.cluster_size.mean()), rel=0.5)
    _, codes = codebook(row(revived, revived, 0, 0))
    assert codes.tolist() == [[1, 1, 0, 0]], "in use at once"
    assert float(codebook.codebook[1]) == pytest.approx(revived, abs=1e-5)


def test_usage_rises_to_all_codes_where_most_are_dead() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(32, 4, generator=generator) * 10
    reviving, fixed = (make(size=32, decay=0.9, expire_below=share) for share in (0.1, 0.0))
    used: dict[MovingAverageCodebook, int] = {reviving: 0, fixed: 0}
    for codebook in used:
        codebook(centres[:4].T[None])
        codebook.codebook[4:] = 1000.0
        codebook.cluster_sum[4:] = 1000.0 * codebook.cluster_size[4:, None]
    for step in range(120):
        chosen = torch.randint(32, (512,), generator=generator)
        frames = centres[chosen] + torch.randn(512, 4, generator=generator) * 0.1
        for codebook in used:
            codes = codebook(frames.T[None])[1]
            used[codebook] += len(codes.unique()) if step >= 100 else 0
    assert used[reviving] / 20 > 0.98 * 32
    assert used[fixed] / 20 <= 4


def test_without_revival_an_unused_code_stays_where_it_is() -> None:
    codebook = begun([0.0, 1000.0], [50.0, 0.5], decay=0.5, expire_below=0.0)
    for _ in range(200):
        codebook(row(-1, 1))
    assert codebook.codebook[1] == pytest.approx(1000, rel=1e-3)


def test_more_dead_codes_than_frames_are_all_replaced() -> None:
    codebook = begun([0.0, 500.0, 600.0, 700.0], [50.0, 0.1, 0.1, 0.1])
    codebook(row(1, 2))
    assert set(codebook.codebook[1:, 0].tolist()) == {1, 2}


def test_evaluation_moves_nothing() -> None:
    codebook = make()
    codebook(clusters(8, 4))
    before = state(codebook.eval())
    codebook(clusters(5, 9))
    codebook.train().encode(clusters(5, 9))
    assert all(torch.equal(before[name], value) for name, value in state(codebook).items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("started", [True, False])
def test_a_batch_that_is_not_finite_moves_nothing(bad: float, started: bool) -> None:
    codebook = make()
    if started:
        codebook(clusters(8, 4))
    before = state(codebook)
    poisoned = clusters(5, 9)
    poisoned[0, 2, 7] = bad
    codebook(poisoned)
    assert all(torch.equal(before[name], value) for name, value in state(codebook).items())


@pytest.mark.parametrize("stop", [0, 1, 3, 7])
def test_statistics_resume_bit_equal(stop: int) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(2, 4, 20, generator=generator) + step for step in range(9)]
    whole = make(decay=0.7, expire_below=0.3)
    saved = copy.deepcopy(whole.state_dict())
    for index, batch in enumerate(batches):
        whole(batch)
        if index + 1 == stop:
            saved = copy.deepcopy(whole.state_dict())
    torch.manual_seed(99)
    resumed = make(decay=0.7, expire_below=0.3)
    resumed.load_state_dict(saved)
    for batch in batches[stop:]:
        resumed(batch)
    found = state(resumed)
    assert all(torch.equal(value, found[name]) for name, value in state(whole).items())


@pytest.mark.parametrize(("key", "value"), [("decay", 1.0), ("decay", -0.1), ("expire_below", 1.0)])
def test_settings_out_of_range_are_refused_in_one_sentence(key: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{key}: expected .* found {value}\.$"):
        make(**{key: value})
