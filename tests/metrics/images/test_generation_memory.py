"""What an evaluation holds does not grow with its reference."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from kdlight.metrics.images.extractors import FeatureExtractor
from kdlight.metrics.images.generation import GenerationMetrics
from tests.memory import peak_bytes


class Projection(FeatureExtractor):
    """Random features of any images: a stand-in for a network of that width."""

    name = "features"

    def __init__(self, values: int, width: int) -> None:
        super().__init__()
        self.width = width
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(values, width, generator=generator) / values)

    def extract(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight).relu()


def batches(count, size, batch=100, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, batch):
        shape = (min(batch, count - start), 3, size, size)
        bytes_ = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        yield {"image": bytes_.float() / 127.5 - 1}


def held_bytes(metrics: GenerationMetrics) -> int:
    """Bytes of all states and buffers."""
    tensors = list(metrics.buffers()) + list(metrics.parameters())
    for metric in metrics._compared:
        for name in metric._defaults:
            state = getattr(metric, name)
            tensors += state if isinstance(state, list) else [state]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.fixture
def few_neighbours(monkeypatch):
    monkeypatch.setattr("kdlight.metrics.images.generation.NEIGHBOURS", 100)


def test_bytes_held_are_the_same_for_any_reference(few_neighbours):
    sizes = set()
    for count in (400, 1200):
        features = Projection(3 * 20 * 20, 16)
        metrics = GenerationMetrics(
            batches(count, 20), batches(count, 20, seed=1), features, max_rows=60
        )
        sizes.add(held_bytes(metrics))
        for part in batches(300, 20, seed=2):
            metrics.update(part["image"])
        row = metrics.row()
        assert all(value == value for value in row.values())
        assert {"frechet_pooled_pixels", "kernel_features", "recall"} <= set(row)
    assert len(sizes) == 1


def test_figures_are_of_all_images_and_floors_of_the_subset(few_neighbours):
    """Frechet distances do not see ``max_rows``; every metric of one extractor shares its call."""
    calls = []

    class Counted(Projection):
        def extract(self, images: Tensor) -> Tensor:
            calls.append(len(images))
            return super().extract(images)

    rows = []
    for most in (600, 10_000):
        features = Counted(3 * 20 * 20, 16)
        metrics = GenerationMetrics(
            batches(1000, 20), batches(300, 20, seed=1), features, max_rows=most
        )
        assert calls == [100] * 10
        calls.clear()
        for part in batches(300, 20, seed=2):
            metrics.update(part["image"])
        calls.clear()
        rows.append(metrics.row())
    for name in ("frechet_features", "frechet_pooled_pixels", "variance", "nearest"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-9)
    for name in ("frechet_features_floor", "frechet_pooled_pixels_floor"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=0.3)
        assert rows[0][name] != rows[1][name]


@pytest.mark.long
def test_200_000_images_of_64_pixels_stay_below_two_gigabytes():
    """In a process of its own, whose peak is its own; the images would be 9.8 GB as floats."""
    script = (
        "from tests.metrics.images.test_generation_memory import evaluate_200_000 as run; run()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    peak = int(done.stdout.split()[-1])
    assert peak < 2e9


def evaluate_200_000() -> None:
    """Evaluate against a generated reference and print this process's peak memory in bytes."""
    metrics = GenerationMetrics(
        batches(200_000, 64, 250), batches(20_000, 64, 250, seed=1), Projection(3 * 64 * 64, 512)
    )
    for part in batches(2000, 64, 250, seed=2):
        metrics.update(part["image"])
    metrics.row()
    print(peak_bytes())
