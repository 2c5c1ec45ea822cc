"""Improved precision and recall: do samples look real, and are all kinds of real ones covered."""

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import RowsMetric
from kdlight.metrics.extractors import FeatureExtractor

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
        radii.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(radii)


def _share_inside(samples: Tensor, centres: Tensor, radii: Tensor, chunk: int) -> Tensor:
    inside = [
        (_squared_distances(rows, centres) <= radii).any(dim=1)
        for rows in torch.split(samples, chunk)
    ]
    return torch.cat(inside).double().mean()


def precision_recall(
    generated: Tensor, real: Tensor, k: int = 3, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """Precision and recall of Kynkäänniemi et al. 2019 (arXiv:1904.06991, equations 1 and 2).

    Every set is the union of spheres around its points that reach to their k-th nearest neighbour
    in the same set. Precision is the share of generated points inside the real set's spheres,
    recall the share of real points inside the generated set's.

    Args:
        generated: Features, (N, F), N above ``k``.
        real: Features, (M, F), M above ``k``.
        k: Which neighbour sets the radius, the point itself not counted.
        chunk: Rows of the distance matrix held at once.

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

    Compare only figures made with the same numbers of samples: both rise as the sets shrink.

    ``compute()`` returns ``precision``, ``recall`` and ``non_finite``.

    Args:
        features: Turns images into vectors.
        k: Which neighbour sets the radius; 3 as in the paper.
        keep_reference: Whether ``reset`` keeps the real images' features.
    """

    higher_is_better = True
    names = ("precision", "recall")

    def __init__(
        self, features: FeatureExtractor, k: int = 3, keep_reference: bool = False
    ) -> None:
        super().__init__(features, keep_reference)
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
