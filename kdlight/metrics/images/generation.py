"""One row of figures about a generator: every metric of the table, over the same samples."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.errors import InputError
from kdlight.metrics.base import FeatureMetric, SampleMetric
from kdlight.metrics.images.extractors import (
    WIDEST,
    FeatureExtractor,
    PixelFeatures,
    pixel_space,
)
from kdlight.metrics.images.forgetting import ForgettingMetrics
from kdlight.metrics.images.frechet import FrechetDistance
from kdlight.metrics.images.kernel import KernelDistance
from kdlight.metrics.images.labels import LabelAccuracy
from kdlight.metrics.images.neighbours import NearestNeighbour
from kdlight.metrics.images.precision_recall import EqualPrecisionRecall, PrecisionRecall
from kdlight.metrics.images.sliced import SlicedWasserstein
from kdlight.metrics.images.variance import VarianceRatio
from kdlight.metrics.sampling import MAX_ROWS, RowSample
from kdlight.metrics.timing import median_seconds
from kdlight.networks.images.classifier import SmallClassifier

Row = dict[str, str | int | float]

FIDS = {"inception": "fid", "inception_clean": "clean_fid"}
"""What the plain Frechet distance of these features is called."""

NEIGHBOURS = 50_000
"""Most images of either set among which neighbours are looked for."""


class GenerationMetrics(nn.Module):
    """Measures samples against a reference set and a held-out set, each read once, in batches.

    The row holds Frechet distances in percent with their floors, kernel distance (features),
    precision and recall (features), accuracy of the asked class, nearest-neighbour distance and
    memorisation ratio, variance ratio; for points the sliced Wasserstein distance, precision and
    recall, each with its floor; and what the judges say that only such data have.

    Memory does not grow with the reference: Frechet distances and variance are of sums over all
    of it; kernel distance, precision and recall are of at most ``max_rows`` rows of either set,
    floors are drawn from as many, and neighbours are looked for among :data:`NEIGHBOURS` images
    of each set, all of them fixed random subsets. Of images with more than 1,024 values the Frechet
    distance of pixels and the neighbours are those of 8x8 averages
    (:class:`~kdlight.metrics.images.extractors.PooledPixels`).

    Args:
        reference: Batches ``{"image": (B, ...) in [-1, 1]}`` of the training split, unaugmented,
            the same on every rank.
        held_out: The same of images the generator has never seen.
        features: Feature extractor of the headline Frechet distance; None for points.
        classifier: Judge of the asked class; None leaves accuracy out.
        rank: Which rank this is: it takes its share of the reference, and of the samples.
        world_size: Number of ranks, whose figures are summed.
        device: Where features are computed.
        judges: Metrics of these data alone, which take samples and the classes asked for, such as
            the modes of a known mixture; their figures join the row.
        forgetting: What measures forgotten and retained classes apart; its figures join the row.
        max_rows: Size of the subsets.
    """

    def __init__(
        self,
        reference: Iterable[Condition],
        held_out: Iterable[Condition],
        features: FeatureExtractor | None = None,
        classifier: SmallClassifier | None = None,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        judges: Sequence[SampleMetric] = (),
        forgetting: ForgettingMetrics | None = None,
        max_rows: int = MAX_ROWS,
    ) -> None:
        super().__init__()
        unseen = RowSample(NEIGHBOURS)
        space: FeatureExtractor | None = None
        for batch in held_out:
            if space is None:
                self.shape = tuple(batch["image"].shape[1:])
                space = pixel_space(self.shape)
            unseen.add(space(batch["image"]))
        if space is None:
            raise InputError("held_out: expected images to compare with, found none.")
        self.space = space
        self.pixels = PixelFeatures(self.shape)
        compared: list[FeatureMetric] = [
            FrechetDistance(space, keep_reference=True, max_rows=max_rows),
            VarianceRatio(self.pixels, keep_reference=True),
        ]
        if features is not None:
            # Over thousands of features one draw scatters little, and takes half a minute.
            draws = 8 if features.width <= WIDEST else 1
            compared += [
                FrechetDistance(features, draws, keep_reference=True, max_rows=max_rows),
                KernelDistance(features, keep_reference=True, max_rows=max_rows),
                PrecisionRecall(features, keep_reference=True, max_rows=max_rows),
            ]
        if len(self.shape) == 1:
            compared.append(SlicedWasserstein(self.shape[0], keep_reference=True))
            if features is None:
                compared.append(
                    EqualPrecisionRecall(
                        space, unseen.rows(), max_rows=max_rows, keep_reference=True
                    )
                )
        self._compared = compared
        self.compared = nn.ModuleList(compared)  # so that they move with this module
        self.to(device)
        seen = RowSample(NEIGHBOURS)
        for index, batch in enumerate(reference):
            seen.add(space(batch["image"]))
            if index % world_size == rank:
                self._update(batch["image"].to(device), real=True)
        self.neighbours = NearestNeighbour(seen.rows(), unseen.rows())
        self.accuracy = None if classifier is None else LabelAccuracy(classifier)
        self._judges = list(judges)
        self.judges = nn.ModuleList(self._judges)
        self.forgetting = forgetting
        self._labelled = False
        self.to(device)

    def _update(self, images: Tensor, real: bool) -> None:
        """Add images to all metrics of features; metrics of one extractor share what it makes."""
        finite = images[images.flatten(1).isfinite().all(dim=1)]
        known: dict[FeatureExtractor, Tensor] = {}
        for metric in self._compared:
            if metric.features not in known:
                known[metric.features] = metric.features(finite)
            metric.update_features(known[metric.features], real, len(images) - len(finite))

    def update(self, images: Tensor, label: Tensor | None = None) -> None:
        """Add samples (B, ...) and the classes that were asked for, (B,).

        Raises:
            InputError: The samples have another shape than the data.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise InputError(
                f"samples: expected the data's shape {self.shape}, found {tuple(images.shape[1:])}."
            )
        self._update(images, real=False)
        self.neighbours.update(self.space(images))
        if self.accuracy is not None and label is not None:
            self._labelled = True
            self.accuracy.update(images, label)
        for judge in self._judges:
            judge.update(images, label)
        if self.forgetting is not None:
            self.forgetting.update(images, label)

    def row(self) -> Row:
        """The figures, summed over all ranks; then the samples are forgotten."""
        row: Row = {}
        for metric in self._compared:
            row |= _named(metric)
        neighbours = {key: float(value) for key, value in self.neighbours.compute().items()}
        if neighbours["non_finite"] == 0:
            del neighbours["non_finite"]
        row |= neighbours
        if self.accuracy is not None:
            # Computed on every rank alike; NaN if nothing was asked for by class.
            accuracy = float(self.accuracy.compute()["accuracy"])
            if self._labelled:
                row["accuracy"] = accuracy
        for judge in self._judges:
            figures = judge.compute()
            row |= {name: float(figures[name]) for name in judge.names}
        if self.forgetting is not None:
            row |= self.forgetting.row()
        for measured in (*self._compared, *self._judges, self.neighbours, self.accuracy):
            if measured is not None:
                measured.reset()
        self._labelled = False
        return row


def _named(metric: FeatureMetric) -> Row:
    """The figures of a metric under the names of the table."""
    figures = {key: float(value) for key, value in metric.compute().items()}
    features = metric.features.name
    if isinstance(metric, FrechetDistance):
        row: Row = {
            f"frechet_{features}": figures["percent"],
            f"frechet_{features}_floor": figures["floor"],
        }
        return row | ({FIDS[features]: figures["distance"]} if features in FIDS else {})
    if isinstance(metric, KernelDistance):
        return {f"kernel_{features}": figures["distance"]}
    if isinstance(metric, SlicedWasserstein):
        return {
            "sliced_wasserstein": figures["distance"],
            "sliced_wasserstein_floor": figures["floor"],
        }
    return {key: value for key, value in figures.items() if key != "non_finite"}


def latencies(
    walks: list[tuple[Generator, int]], batch_size: int, device: torch.device, repeats: int = 7
) -> list[float]:
    """Milliseconds per sample of each walk, medians of repeats that take turns.

    Args:
        walks: Generators and step counts.
        batch_size: Samples at once.
        device: Where to run.
        repeats: Repeats after one warm-up.
    """
    batches = [
        next(noise_for(generator, batch_size, batch_size, 0, device)) for generator, _ in walks
    ]
    calls = [
        partial(generator, *batch, steps=steps)
        for (generator, steps), batch in zip(walks, batches, strict=True)
    ]
    return [1000 * each / batch_size for each in median_seconds(calls, device, repeats)]
