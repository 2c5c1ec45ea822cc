"""Kernel distance (KID): unbiased squared MMD with the cubic polynomial kernel."""

from collections.abc import Callable

import torch
from torch import Tensor

from kdlight.metrics.base import RowsMetric


def cubic_kernel(a: Tensor, b: Tensor) -> Tensor:
    """``(a . b / F + 1)^3`` of all pairs of rows (N, F) and (M, F): (N, M)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def squared_mmd(
    a: Tensor,
    b: Tensor,
    kernel: Callable[[Tensor, Tensor], Tensor] = cubic_kernel,
    chunk: int = 2048,
) -> Tensor:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, lemma 6).

    Args:
        a: Features, (N, F), N at least 2.
        b: Features, (M, F), M at least 2.
        kernel: Kernel matrix of two sets of rows.
        chunk: Rows of the kernel matrix held at once.

    Returns:
        The estimate, (), float64; around zero it is negative as often as not.
    """
    a, b = a.double(), b.double()

    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([kernel(rows, y).sum() for rows in torch.split(x, chunk)]).sum()

    def off_diagonal(x: Tensor) -> Tensor:
        diagonal = [kernel(rows, rows).diagonal().sum() for rows in torch.split(x, 256)]
        return (total(x, x) - torch.stack(diagonal).sum()) / (len(x) * (len(x) - 1))

    return off_diagonal(a) + off_diagonal(b) - 2 * total(a, b) / (len(a) * len(b))


class KernelDistance(RowsMetric):
    """KID (Binkowski et al. 2018, arXiv:1801.01401, section 4) of generated to real features.

    torchmetrics' ``KernelInceptionDistance`` averages over random subsets of equal size in
    float32; this takes all pairs once, in float64, so that it has no noise of its own and the two
    sets may differ in size. Of either set at most ``max_rows`` are compared, a fixed random subset.

    ``compute()`` returns ``distance`` and ``non_finite``.
    """

    higher_is_better = False
    names = ("distance",)

    def figures(self) -> dict[str, Tensor]:
        return {"distance": squared_mmd(self.rows("generated_rows"), self.rows("real_rows"))}
