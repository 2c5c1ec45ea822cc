"""Frechet distance of feature distributions, in percent of the reference's variance."""

import torch
from torch import Tensor

from kdlight.metrics.base import FeatureMetric
from kdlight.metrics.images.extractors import FeatureExtractor
from kdlight.metrics.sampling import MAX_ROWS


def frechet_distance(
    mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, root2: Tensor | None = None
) -> Tensor:
    """Squared 2-Wasserstein distance of two Gaussians (arXiv:1706.08500, equation 6).

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``. The last trace is the sum of the singular
    values of ``C1^(1/2) C2^(1/2)``: unlike the eigenvalues of the product, it needs no square root
    of numbers that are zero up to rounding, so singular covariances lose no digits.

    Args:
        mean1: (F,).
        cov1: Symmetric, positive semi-definite, (F, F).
        mean2: (F,).
        cov2: Like ``cov1``.
        root2: :func:`symmetric_root` of ``cov2``, where many are compared with one.

    Returns:
        The distance, (), float64, at least 0.
    """
    mean1, cov1, mean2, cov2 = (tensor.double() for tensor in (mean1, cov1, mean2, cov2))
    root2 = symmetric_root(cov2) if root2 is None else root2
    overlap = torch.linalg.svdvals(symmetric_root(cov1) @ root2).sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap
    return distance.clamp(min=0)  # type: ignore[no-any-return]


def symmetric_root(matrix: Tensor) -> Tensor:
    """Square root of a symmetric, positive semi-definite matrix (F, F)."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.mT  # type: ignore[no-any-return]


def frechet_floor(features: Tensor, count: int, draws: int = 8, seed: int = 0) -> Tensor:
    """What the percent figure would be for a perfect generator.

    Draws ``count`` real samples with replacement and measures them against all of them. Does not
    depend on the order of the rows.

    Args:
        features: Features of the real images, (N, F).
        count: How many to draw, as many as were generated; at least 2.
        draws: How many such draws to average; one scatters by some 15 %.
        seed: Seed of the draws.

    Returns:
        Percent of the reference's variance, (), float64.
    """
    rows = features.double()
    generator = torch.Generator().manual_seed(seed)
    # Ranks deliver rows in an order of their own: any fixed key of the rows undoes that.
    key = torch.rand(rows.shape[1], generator=generator, dtype=torch.float64).to(rows.device)
    rows = rows[torch.argsort(rows @ key)]
    mean, cov = rows.mean(0), torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1])
    root = symmetric_root(cov)
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    for _ in range(draws):
        chosen = rows[torch.randint(len(rows), (count,), generator=generator).to(rows.device)]
        drawn_cov = torch.cov(chosen.T).reshape(cov.shape)
        total += frechet_distance(chosen.mean(0), drawn_cov, mean, cov, root)
    return 100 * total / draws / cov.trace()


class FrechetDistance(FeatureMetric):
    """Frechet distance of generated to real features, from running sums in float64.

    torchmetrics' ``FrechetInceptionDistance`` keeps the same sums, but rounds the result to
    float32, raises on fewer than two samples, takes no note of non-finite ones and has neither
    percent nor floor; the tests hold ``distance`` to it. Memory does not grow with either set.

    ``compute()`` returns ``distance`` (with Inception features: the FID), ``percent``
    (``100 * distance / trace(cov_real)``, the same whatever the scale of the features), ``floor``
    (:func:`frechet_floor` for as many samples as were generated, drawn from at most ``max_rows`` of
    the real images) and ``non_finite``.

    Args:
        features: Turns images into vectors.
        floor_draws: Draws averaged for the floor; 0 leaves the floor out.
        keep_reference: Whether ``reset`` keeps the real images' share of the states.
        max_rows: Most real features that are held for the floor.
    """

    higher_is_better = False
    real_count: Tensor
    generated_count: Tensor
    real_rows: list[Tensor]

    def __init__(
        self,
        features: FeatureExtractor,
        floor_draws: int = 8,
        keep_reference: bool = False,
        max_rows: int = MAX_ROWS,
    ) -> None:
        super().__init__(features, keep_reference)
        self.floor_draws = floor_draws
        self.names = ("distance", "percent", "floor") if floor_draws else ("distance", "percent")
        # By the sizes of both sets, and of the real one: with a kept reference every row of a
        # table has the same floor and root, and each draw costs a matrix root.
        self._floors: dict[tuple[int, int], Tensor] = {}
        self._roots: dict[int, Tensor] = {}
        width = features.width
        for side in ("real", "generated"):
            self.add_sums(
                **{
                    f"{side}_count": (),
                    f"{side}_sum": (width,),
                    f"{side}_outer": (width, width),
                }
            )
        if floor_draws:
            self.add_rows("real_rows", max_rows=max_rows)

    def accumulate(self, features: Tensor, side: str) -> None:
        values = features.double()
        self.add_to(f"{side}_count", len(values))
        self.add_to(f"{side}_sum", values.sum(0))
        self.add_to(f"{side}_outer", values.T @ values)
        if self.floor_draws and side == "real":
            self.keep("real_rows", features)

    def enough(self) -> bool:
        return bool(self.real_count >= 2) and bool(self.generated_count >= 2)

    def _moments(self, side: str) -> tuple[Tensor, Tensor]:
        count, total, outer = (
            getattr(self, f"{side}_{name}") for name in ("count", "sum", "outer")
        )
        mean = total / count
        return mean, (outer - count * torch.outer(mean, mean)) / (count - 1)

    def figures(self) -> dict[str, Tensor]:
        real, generated = self._moments("real"), self._moments("generated")
        sizes = (int(self.generated_count), int(self.real_count))
        if sizes[1] not in self._roots:
            self._roots = {sizes[1]: symmetric_root(real[1])}
        distance = frechet_distance(*generated, *real, self._roots[sizes[1]].to(self.device))
        figures = {"distance": distance, "percent": 100 * distance / real[1].trace()}
        if self.floor_draws:
            if sizes not in self._floors:
                rows = self.rows("real_rows")
                self._floors[sizes] = frechet_floor(rows, sizes[0], self.floor_draws)
            figures["floor"] = self._floors[sizes].to(distance.device)
        return figures

    def reset(self) -> None:
        """Forget the generated images and, unless ``keep_reference``, the real ones."""
        if not self.keep_reference:
            self._floors.clear()
            self._roots.clear()
        super().reset()
