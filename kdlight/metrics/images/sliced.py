"""Sliced Wasserstein distance of point sets, exact in one dimension."""

from collections.abc import Callable

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import RowsMetric
from kdlight.metrics.images.extractors import PixelFeatures


def directions(dimension: int, projections: int, seed: int = 0) -> Tensor:
    """Fixed random unit vectors, (projections, dimension), float64, in orthonormal groups.

    Every group of ``dimension`` is a uniformly random orthonormal basis (Rowland et al. 2019,
    arXiv:1903.03784): less noise than independent directions, and none for the distance between
    a set and its translate when ``projections`` is a multiple of ``dimension``.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = -(-projections // dimension)
    gaussian = torch.randn(groups, dimension, dimension, generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(gaussian)
    # The signs make the law of the basis uniform, whatever LAPACK's convention.
    basis = basis * triangle.diagonal(dim1=1, dim2=2).sign()[:, None, :]
    return basis.mT.reshape(-1, dimension)[:projections]  # type: ignore[no-any-return]


def wasserstein_1d(a: Tensor, b: Tensor, p: int = 2) -> Tensor:
    """p-th power of the p-Wasserstein distance of point sets on the line, exactly.

    The integral of ``|F_a^-1 - F_b^-1|^p``: both quantile functions are steps, so it is a sum over
    the steps of the two together.

    Args:
        a: Points, (N, K): K sets at once.
        b: Points, (M, K).
        p: Order, at least 1.

    Returns:
        One number per set, (K,), float64.
    """
    n, m = len(a), len(b)
    a, b = a.double().sort(dim=0).values, b.double().sort(dim=0).values
    if n == m:
        return (a - b).abs().pow(p).mean(dim=0)
    # The steps end at i / n and j / m; in units of 1 / (n m) those are integers.
    both = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).to(a.device)
    edges = torch.unique(both)
    weight = edges.diff().double() / (n * m)
    gap = (a[edges[:-1] // m] - b[edges[:-1] // n]).abs().pow(p)
    return weight @ gap  # type: ignore[no-any-return]


def sliced_wasserstein(
    a: Tensor, b: Tensor, p: int = 2, projections: int = 128, seed: int = 0
) -> Tensor:
    """Sliced p-Wasserstein distance (Bonneel et al. 2015, section 3.1) of two point sets.

    Args:
        a: Points, (N, d).
        b: Points, (M, d).
        p: 1 or 2.
        projections: Number of directions; in one dimension one is exact.
        seed: Seed of the directions.

    Returns:
        The distance, (), float64, in data units.
    """
    lines = directions(a.shape[1], projections if a.shape[1] > 1 else 1, seed).to(a.device)
    powers = wasserstein_1d(a.double() @ lines.T, b.double() @ lines.T, p)
    return powers.mean() ** (1 / p)


def sliced_floor(
    draw: Callable[[int, torch.Generator], Tensor],
    count: int,
    reference_count: int | None = None,
    p: int = 2,
    projections: int = 128,
    repeats: int = 16,
    seed: int = 0,
) -> Tensor:
    """The distance that sampling alone leaves: the mean over pairs of independent real sets.

    Args:
        draw: Draws that many independent real points, (count, d), with that generator.
        count: Size of the first set, as many points as were generated.
        reference_count: Size of the second, as many as the reference has; None for ``count``.
        p: 1 or 2.
        projections: Number of directions.
        repeats: Number of pairs; one pair scatters by some 40 % where modes carry the distance.
        seed: Seed of the points and of the directions.

    Returns:
        The floor, (), float64, in data units.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(repeats):
        first = draw(count, generator)
        second = draw(count if reference_count is None else reference_count, generator)
        distances.append(sliced_wasserstein(first, second, p, projections, seed))
    return torch.stack(distances).mean()


def resampled_floor(
    points: Tensor, count: int, p: int = 2, projections: int = 128, repeats: int = 8, seed: int = 0
) -> Tensor:
    """:func:`sliced_floor` where the law is known by one set alone.

    Both sets of a pair, one of ``count`` points and one as large as ``points``, are drawn from
    ``points`` with replacement, so that the floor holds the scatter of samples and of reference.
    Does not depend on the order of the points.

    Args:
        points: Real points, (N, d).
        count: As many as were generated.
        p: 1 or 2.
        projections: Number of directions.
        repeats: Number of pairs.
        seed: Seed of the draws and of the directions.

    Returns:
        The floor, (), float64, in data units.
    """
    generator = torch.Generator().manual_seed(seed)
    # Ranks deliver points in an order of their own: any fixed key of the points undoes that.
    key = torch.rand(points.shape[1], generator=generator, dtype=torch.float64).to(points.device)
    points = points[torch.argsort(points.double() @ key)]

    def draw(number: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(points), (number,), generator=generator)
        return points[chosen.to(points.device)]

    return sliced_floor(draw, count, len(points), p, projections, repeats, seed)


class SlicedWasserstein(RowsMetric):
    """Sliced Wasserstein distance of generated to real points (B, d). torchmetrics has none.

    ``compute()`` returns ``distance`` in data units, ``floor`` (:func:`resampled_floor` for as
    many points as were generated) and ``non_finite``. Of either set at most ``max_rows`` are
    compared, a fixed random subset.

    Args:
        dimension: Number of coordinates d.
        p: 1 or 2.
        projections: Number of directions.
        seed: Seed of the directions.
        keep_reference: Whether ``reset`` keeps the real points.
        max_rows: Most points of either set that are held and compared.
    """

    higher_is_better = False
    names = ("distance", "floor")

    def __init__(
        self,
        dimension: int,
        p: int = 2,
        projections: int = 128,
        seed: int = 0,
        keep_reference: bool = False,
        max_rows: int = 100_000,
    ) -> None:
        super().__init__(PixelFeatures((dimension,)), keep_reference, max_rows)
        if p not in (1, 2):
            raise InputError(f"p: expected 1 or 2, found {p}.")
        self.p, self.projections, self.seed = p, projections, seed
        # By the sizes of both sets: with a kept reference it is the same for every row of a table.
        self._floors: dict[tuple[int, int], Tensor] = {}

    def figures(self) -> dict[str, Tensor]:
        real, generated = self.rows("real_rows"), self.rows("generated_rows")
        sizes = (len(generated), len(real))
        if sizes not in self._floors:
            self._floors[sizes] = resampled_floor(
                real, len(generated), self.p, self.projections, seed=self.seed
            )
        return {
            "distance": sliced_wasserstein(generated, real, self.p, self.projections, self.seed),
            "floor": self._floors[sizes].to(real.device),
        }

    def reset(self) -> None:
        """Forget the generated points and, unless ``keep_reference``, the real ones."""
        if not self.keep_reference:
            self._floors.clear()
        super().reset()
