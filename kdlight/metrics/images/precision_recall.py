"""Improved precision and recall: do samples look real, and are all kinds of real ones covered."""

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import RowsMetric
from kdlight.metrics.images.extractors import FeatureExtractor
from kdlight.metrics.sampling import MAX_ROWS

# Squared distances carry rounding errors of about 1e-16 of the largest squared norm: a point that
# lies on a sphere, such as a copy of a duplicated real image, must still count as inside it.
SLACK = 1e-12


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp(min=0)


def _squared_radii(points: Tensor, k: int, chunk: int) -> Tensor:
    """Squared distance (N,) of every point to its k-th nearest other point."""
    radii = []
    for start in range(0, len(points), chunk):
        rows = points[start : start + chunk]
        distances = _squared_distances(rows, points)
        index = torch.arange(len(rows), device=points.device)
        distances[index, index + start] = torch.inf
        # The same number as kthvalue, which takes eight times as long.
        radii.append(distances.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def _share_inside(samples: Tensor, centres: Tensor, radii: Tensor, chunk: int) -> Tensor:
    inside = [
        (_squared_distances(rows, centres) <= radii).any(dim=1)
        for rows in torch.split(samples, chunk)
    ]
    return torch.cat(inside).double().mean()


def precision_recall(
    generated: Tensor, real: Tensor, k: int = 3, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """Precision and recall of Kynkäänniemi et al. 2019 (arXiv:1904.06991, equations 1 and 2).

    Every set is the union of spheres around its points that reach to their k-th nearest neighbour
    in the same set. Precision is the share of generated points inside the real set's spheres,
    recall the share of real points inside the generated set's.

    Args:
        generated: Features, (N, F), N above ``k``.
        real: Features, (M, F), M above ``k``.
        k: Which neighbour sets the radius, the point itself not counted.
        chunk: Rows of the distance matrix held at once; few, so that they stay in the cache.

    Returns:
        Precision and recall, each (), float64, in [0, 1].
    """
    centre = real.double().mean(0)
    generated, real = generated.double() - centre, real.double() - centre
    largest = torch.stack([points.square().sum(1).max() for points in (generated, real)]).max()
    slack = SLACK * largest
    precision = _share_inside(generated, real, _squared_radii(real, k, chunk) + slack, chunk)
    recall = _share_inside(real, generated, _squared_radii(generated, k, chunk) + slack, chunk)
    return precision, recall


class PrecisionRecall(RowsMetric):
    """Precision and recall of generated against real features. torchmetrics has none.

    Compare only figures made with the same numbers of samples: both rise as the sets shrink. Of
    either set at most ``max_rows`` are compared, a fixed random subset.

    ``compute()`` returns ``precision``, ``recall`` and ``non_finite``.

    Args:
        features: Turns images into vectors.
        k: Which neighbour sets the radius; 3 as in the paper.
        keep_reference: Whether ``reset`` keeps the real images' features.
        max_rows: Most samples, and most real images, that are compared.
    """

    higher_is_better = True
    names: tuple[str, ...] = ("precision", "recall")

    def __init__(
        self,
        features: FeatureExtractor,
        k: int = 3,
        keep_reference: bool = False,
        max_rows: int = MAX_ROWS,
    ) -> None:
        super().__init__(features, keep_reference, max_rows)
        if k < 1:
            raise InputError(f"k: expected at least 1, found {k}.")
        self.k = k

    def enough(self) -> bool:
        return min(len(self.rows("real_rows")), len(self.rows("generated_rows"))) > self.k

    def figures(self) -> dict[str, Tensor]:
        precision, recall = precision_recall(
            self.rows("generated_rows"), self.rows("real_rows"), self.k
        )
        return {"precision": precision, "recall": recall}


def shuffled(rows: Tensor, seed: int = 0) -> Tensor:
    """The rows (N, F) in a fixed random order, whatever order the ranks delivered them in."""
    generator = torch.Generator().manual_seed(seed)
    # Any fixed key of the rows undoes the order of the ranks.
    key = torch.rand(rows.shape[1], generator=generator, dtype=torch.float64).to(rows.device)
    rows = rows[torch.argsort(rows.double() @ key)]
    return rows[torch.randperm(len(rows), generator=generator).to(rows.device)]


class EqualPrecisionRecall(PrecisionRecall):
    """Precision and recall of equally many samples and real points, each beside its floor.

    The floors are the same figures of as many held-out points, which stand in for a perfect
    generator. All three sets are cut to one size, in a fixed random order: the smallest of the
    three, at most ``max_rows``, so that a row of a table of 10,000 samples takes two CPU-seconds.

    ``compute()`` returns ``precision``, ``recall``, ``precision_floor``, ``recall_floor`` and
    ``non_finite``.

    Args:
        features: Turns samples into vectors.
        held_out: Real samples that are not in the reference, (M, ...), the same on every rank.
        k: Which neighbour sets the radius; 3 as in the paper.
        max_rows: Most samples, and most real points, that are compared.
        keep_reference: Whether ``reset`` keeps the real samples' features.

    Raises:
        InputError: No more than ``k`` points are held out, or may be compared.
    """

    names = ("precision", "recall", "precision_floor", "recall_floor")
    held_out_rows: Tensor

    def __init__(
        self,
        features: FeatureExtractor,
        held_out: Tensor,
        k: int = 3,
        max_rows: int = MAX_ROWS,
        keep_reference: bool = False,
    ) -> None:
        super().__init__(features, k, keep_reference, max_rows)
        for name, count in (("max_rows", max_rows), ("held_out", len(held_out))):
            if count <= k:
                raise InputError(f"{name}: expected more than k = {k}, found {count}.")
        rows = shuffled(features(held_out).double())[:max_rows]
        self.register_buffer("held_out_rows", rows, persistent=False)
        # By the sizes of both sets: with a kept reference they are the same for every row of a
        # table.
        self._floors: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def enough(self) -> bool:
        return self._sizes()[0] > self.k

    def _sizes(self) -> tuple[int, int]:
        """How many points are compared, and how many real ones are held."""
        generated, real = len(self.rows("generated_rows")), len(self.rows("real_rows"))
        return min(generated, real, len(self.held_out_rows)), real

    def figures(self) -> dict[str, Tensor]:
        sizes = size, _ = self._sizes()
        generated = shuffled(self.rows("generated_rows"))[:size]
        real = shuffled(self.rows("real_rows"))[:size]
        if sizes not in self._floors:
            self._floors[sizes] = precision_recall(self.held_out_rows[:size], real, self.k)
        values = (*precision_recall(generated, real, self.k), *self._floors[sizes])
        return {name: value.to(real.device) for name, value in zip(self.names, values, strict=True)}

    def reset(self) -> None:
        """Forget the samples and, unless ``keep_reference``, the real points."""
        if not self.keep_reference:
            self._floors.clear()
        super().reset()
