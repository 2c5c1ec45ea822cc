"""Searches the intermediate noise levels of multistep consistency sampling."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch

from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.diffusion.multistep import level_bounds, with_sigmas
from kdlight.errors import InputError
from kdlight.metrics.base import FeatureMetric
from kdlight.metrics.images.extractors import FeatureExtractor, pixel_space
from kdlight.metrics.images.frechet import FrechetDistance
from kdlight.metrics.images.sliced import SlicedWasserstein

ROUNDS = 10
"""Rounds of the search of one level: 2 evaluations each, and (2/3)^10 = 1.7 % of the range left."""


class SampleDistance:
    """Distance of a generator's samples to data, the noise of every call being the same.

    The Frechet distance in percent; for points the sliced Wasserstein distance. Called with two
    generators that share a denoiser, it compares them on common random numbers: the noise they
    start from, and that which a sampler adds at each of its steps.

    Args:
        reference: Batches of the training split, ``{"image": (B, ...)}``.
        shape: Shape of one sample.
        features: Feature extractor of the Frechet distance; None takes the pixels.
        num_samples: Samples of one evaluation.
        batch_size: Samples at once.
        seed: Seed of the noise.
        rank: Which rank this is: it takes its share of the batches.
        world_size: Number of ranks, whose samples are one set.
        device: Where to sample.
    """

    def __init__(
        self,
        reference: Iterable[Condition],
        shape: Sequence[int],
        features: FeatureExtractor | None,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        metric: FeatureMetric
        if len(shape) == 1:
            metric, self._figure = SlicedWasserstein(shape[0], keep_reference=True), "distance"
        else:
            features = pixel_space(shape) if features is None else features
            metric = FrechetDistance(features, floor_draws=0, keep_reference=True)
            self._figure = "percent"
        self._metric = metric.to(device)
        self._rank, self._world_size = rank, world_size
        for index, batch in enumerate(reference):
            if index % world_size == rank:
                self._metric.update(batch["image"].to(device), real=True)
        self._draw = (num_samples, batch_size, seed, device)

    def __call__(self, generator: Generator) -> float:
        """The distance in the generator's default number of steps; infinite if it diverges."""
        for index, (noise, condition) in enumerate(noise_for(generator, *self._draw)):
            if index % self._world_size == self._rank:
                self._metric.update(generator(noise, condition), real=False)
        distance = float(self._metric.compute()[self._figure])
        self._metric.reset()
        return math.inf if math.isnan(distance) else distance


def ternary_search(
    objective: Callable[[float], float], low: float, high: float, rounds: int = ROUNDS
) -> float:
    """Where a function with one valley is least: each round drops the worse outer third.

    Returns the best of the points it looked at, not the middle of what is left, so that noise in
    the objective costs no more than the choice between near points.

    Args:
        objective: The function, evaluated ``2 * rounds`` times.
        low: Lower end of the interval.
        high: Upper end.
        rounds: Number of rounds.
    """
    seen: dict[float, float] = {}
    for _ in range(rounds):
        third = (high - low) / 3
        left, right = low + third, high - third
        seen[left], seen[right] = objective(left), objective(right)
        if seen[left] <= seen[right]:
            high = right
        else:
            low = left
    return min(seen, key=lambda point: seen[point])


def search_sigmas(
    generator: Generator,
    count: int,
    distance: Callable[[Generator], float],
    rounds: int = ROUNDS,
) -> list[float]:
    """Intermediate levels one at a time, the earlier ones kept (Song et al. 2023, section 3).

    Ternary search on log sigma (arXiv:2303.01469): it takes for granted that the distance has one
    valley between ``sigma_min`` and the level before, as at both ends a step changes nothing.

    Args:
        generator: A student that samples with the consistency algorithm.
        count: Number of levels; the first n - 1 of them are those of n steps.
        distance: What to make small, of a generator in its default number of steps; evaluated
            ``2 * rounds * count`` times.
        rounds: Rounds of the search of one level.

    Returns:
        Falling levels of six significant digits, so that they are the same when typed in.

    Raises:
        InputError: The generator has no free levels, or its ``sigma_min`` is 0.
    """
    low, high = level_bounds(generator)
    if low <= 0:
        raise InputError(f"sigma_min: a search on log sigma expects it above 0, found {low:g}.")
    kept: list[float] = []

    def rounded(log_sigma: float) -> float:
        return float(f"{math.exp(log_sigma):.6g}")

    for _ in range(count):
        best = ternary_search(
            lambda log_sigma: distance(with_sigmas(generator, [*kept, rounded(log_sigma)])),
            math.log(low),
            math.log(high),
            rounds,
        )
        kept.append(rounded(best))
        high = kept[-1]
    return kept
