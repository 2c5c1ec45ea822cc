"""What holds for every metric: ranks add up, bad samples give NaN, batches do not matter."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.metrics.images.extractors import ClassifierFeatures, PixelFeatures
from kdlight.metrics.images.frechet import FrechetDistance
from kdlight.metrics.images.kernel import KernelDistance
from kdlight.metrics.images.known_parts import KnownParts
from kdlight.metrics.images.labels import LabelAccuracy
from kdlight.metrics.images.modes import ModeCoverage
from kdlight.metrics.images.neighbours import NearestNeighbour
from kdlight.metrics.images.precision_recall import EqualPrecisionRecall, PrecisionRecall
from kdlight.metrics.images.sliced import SlicedWasserstein
from kdlight.metrics.images.teacher_gap import TeacherGap
from kdlight.metrics.images.variance import VarianceRatio
from kdlight.networks.images.classifier import SmallClassifier

COUNT = 40


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classifier():
    torch.manual_seed(0)
    return SmallClassifier()


def against_real(metric):
    def feed(generated, labels):
        metric.update(random(COUNT, *generated.shape[1:], seed=1), real=True)
        metric.update(generated, real=False)

    return metric, feed


def with_labels():
    metric = LabelAccuracy(classifier())
    return metric, metric.update


def with_teacher():
    metric = TeacherGap(ClassifierFeatures(classifier()))
    return metric, lambda generated, labels: metric.update(generated, generated * 0.9)


def with_mixture():
    metric = ModeCoverage(MixtureDenoiser([[0.0] * 64, [0.1] * 64], variances=1.0))
    return metric, lambda generated, labels: metric.update(generated, labels % 3)


def with_parts():
    variants = random(5, 2, 1, 8, 8, seed=2)
    metric = KnownParts(variants, torch.ones(5, 8, 8, dtype=torch.bool), tolerance=1.2)
    return metric, metric.update


def with_sets():
    metric = NearestNeighbour(random(50, 1, 8, 8, seed=2), random(20, 1, 8, 8, seed=3))
    return metric, lambda generated, labels: metric.update(generated)


FEATURES = (1, 8, 8)
METRICS = {
    "frechet": lambda: against_real(FrechetDistance(ClassifierFeatures(classifier()))),
    "kernel": lambda: against_real(KernelDistance(PixelFeatures(FEATURES))),
    "kernel_of_a_subset": lambda: against_real(
        KernelDistance(PixelFeatures(FEATURES), max_rows=12)
    ),
    "precision_recall": lambda: against_real(PrecisionRecall(PixelFeatures(FEATURES))),
    "equal_precision_recall": lambda: against_real(
        EqualPrecisionRecall(PixelFeatures((64,)), random(30, 64, seed=5))
    ),
    "modes": with_mixture,
    "known_parts": with_parts,
    "variance": lambda: against_real(VarianceRatio(PixelFeatures(FEATURES))),
    "sliced": lambda: against_real(SlicedWasserstein(64)),
    "labels": with_labels,
    "teacher_gap": with_teacher,
    "neighbours": with_sets,
}

POINTS = ("sliced", "equal_precision_recall", "modes")


def samples(name, seed=4, count=COUNT):
    generated = random(count, 1, 8, 8, seed=seed)
    return generated.flatten(1) if name in POINTS else generated


def labels_of(generated):
    return torch.arange(len(generated)) % 10


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_one_bad_sample_makes_every_figure_nan_and_is_counted(name, bad):
    metric, feed = METRICS[name]()
    generated = samples(name)
    generated.view(COUNT, -1)[[3, 7], 5] = bad
    feed(generated, labels_of(generated))
    result = metric.compute()
    assert result.pop("non_finite") == 2
    assert set(result) == set(metric.names)
    assert all(value.isnan() for value in result.values())
    metric.reset()
    feed(samples(name), labels_of(generated))
    assert all(value.isfinite() for value in metric.compute().values())


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_samples_give_nan(name, count):
    metric, feed = METRICS[name]()
    generated = samples(name, count=count)
    feed(generated, labels_of(generated))
    result = metric.compute()
    assert result.pop("non_finite") == 0
    assert all(value.isnan() for value in result.values())


@pytest.mark.parametrize("name", METRICS)
def test_all_samples_bad_does_not_crash(name):
    metric, feed = METRICS[name]()
    generated = samples(name).fill_(torch.nan)
    feed(generated, labels_of(generated))
    assert metric.compute()["non_finite"] == COUNT


def test_a_bad_reference_counts_too():
    metric = VarianceRatio(PixelFeatures((2,)), keep_reference=True)
    metric.update(torch.tensor([[0.0, torch.nan], [1.0, 1.0], [2.0, 3.0]]), real=True)
    metric.reset()
    metric.update(torch.randn(5, 2), real=False)
    assert metric.compute()["non_finite"] == 1


@pytest.mark.parametrize("build", [FrechetDistance, KernelDistance, PrecisionRecall, VarianceRatio])
def test_kept_reference_survives_reset_and_the_rest_does_not(build):
    metric = build(PixelFeatures((3,)), keep_reference=True)
    fresh = build(PixelFeatures((3,)))
    real, first, second = (random(30, 3, seed=seed) for seed in range(3))
    metric.update(real, real=True)
    metric.update(first, real=False)
    metric.compute()
    metric.reset()
    metric.update(second, real=False)
    fresh.update(real, real=True)
    fresh.update(second, real=False)
    assert metric.compute() == fresh.compute()
    fresh.reset()
    fresh.update(second, real=False)
    assert all(value.isnan() for key, value in fresh.compute().items() if key != "non_finite")


def share_of(rank, folder):
    """Results of one of two gloo ranks, saved to ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    results = {}
    for name, build in METRICS.items():
        metric, _ = build()
        generated, real = samples(name), random(COUNT, 1, 8, 8, seed=1)
        labels = labels_of(generated)
        # Uneven shares, and rank 1 sees no real sample at all.
        mine = slice(0, 29) if rank == 0 else slice(29, COUNT)
        if name == "labels":
            metric.update(generated[mine], labels[mine])
        elif name == "modes":
            metric.update(generated[mine], labels[mine] % 3)
        elif name == "teacher_gap":
            metric.update(generated[mine], generated[mine] * 0.9)
        elif name in ("neighbours", "known_parts"):
            metric.update(generated[mine])
        else:
            metric.update(generated[mine], real=False)
            if rank == 0:
                for part in real.reshape(COUNT, *generated.shape[1:]).split(17):
                    metric.update(part, real=True)
        results[name] = metric.compute()
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process_on_all_data(tmp_path):
    threads = torch.get_num_threads()
    # This process is rank 0: importing everything twice more would take most of the time.
    other = mp.get_context("spawn").Process(target=share_of, args=(1, str(tmp_path)))
    other.start()
    try:
        share_of(0, str(tmp_path))
    finally:
        torch.set_num_threads(threads)
        other.join()
    assert other.exitcode == 0
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, build in METRICS.items():
        metric, feed = build()
        feed(samples(name), labels_of(samples(name)))
        expected = metric.compute()
        for result in ranks:
            assert set(result[name]) == set(expected)
            for key, value in expected.items():
                assert result[name][key].item() == pytest.approx(value.item(), rel=1e-6), name
