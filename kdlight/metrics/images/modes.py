"""Does a generator give every mode of a known Gaussian mixture its share, and nothing else?"""

import math

import torch
from scipy.special import chdtri
from torch import Tensor

from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric

INSIDE, OUTSIDE = 4.0, 5.0
"""Standard deviations in the plane within which a sample belongs to a mode; beyond which it strays.

Of exact draws 3 in 10,000 lie beyond the first, 4 in a million beyond the second.
"""


def squared_reach(deviations: float, dimension: int) -> float:
    """Squared radius, in variances of one coordinate, that as many draws exceed as in the plane.

    In the plane ``deviations^2``: a share ``exp(-deviations^2 / 2)`` of a Gaussian lies further
    out. In many dimensions nearly all of it would lie beyond that radius, so the share is kept.
    """
    return float(chdtri(dimension, math.exp(-(deviations**2) / 2)))


class ModeCoverage(SampleMetric):
    """Share of a mixture's components that are covered, and share of samples that belong to none.

    A component is covered if at least half of its fair share of the samples lies within 4 standard
    deviations of its mean. Its fair share is its weight, or as many samples as were asked for by
    its label. Made for components that stand apart: where they overlap a sample counts for each.

    ``compute()`` returns ``modes`` and ``strays`` (further than 5 standard deviations from every
    mean), both in [0, 1], and ``non_finite``. Exact draws have 1 and about 4e-6. The radii are
    those of the plane, see :func:`squared_reach`. torchmetrics has nothing like it.

    Args:
        mixture: The distribution; components of weight 0 are left out of ``modes``.
    """

    names = ("modes", "strays")
    means: Tensor
    variances: Tensor
    weights: Tensor
    count: Tensor
    stray_count: Tensor
    inside: Tensor
    fair: Tensor

    def __init__(self, mixture: MixtureDenoiser) -> None:
        super().__init__()
        for name in ("means", "variances", "weights"):
            buffer = getattr(mixture, name).detach().double().clone()
            self.register_buffer(name, buffer, persistent=False)
        components, dimension = self.means.shape
        self._inside = squared_reach(INSIDE, dimension)
        self._outside = squared_reach(OUTSIDE, dimension)
        self.add_sums(count=(), stray_count=(), inside=(components,), fair=(components,))

    def update(self, points: Tensor, label: Tensor | None = None) -> None:
        """Add generated points, (B, d), and the components that were asked for, (B,), if any.

        Raises:
            InputError: The points have another dimension than the mixture.
        """
        if tuple(points.shape[1:]) != tuple(self.means.shape[1:]):
            raise InputError(
                f"points: expected the mixture's shape {tuple(self.means.shape[1:])}, "
                f"found {tuple(points.shape[1:])}."
            )
        finite = points.isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        points = points[finite].double()
        # Not cdist, whose products of matrices round coarsely.
        squares = (points[:, None] - self.means).square().sum(2)
        self.add_to("count", len(points))
        self.add_to("inside", (squares <= self._inside * self.variances).double().sum(0))
        self.add_to("stray_count", (squares > self._outside * self.variances).all(dim=1).sum())
        components = len(self.means)
        # The label behind the last asks for any component, as no label does.
        asked = label[finite] if label is not None else points.new_full((len(points),), components)
        counts = torch.bincount(asked.long(), minlength=components + 1)
        self.add_to("fair", counts[:components] + counts[components] * self.weights)

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        # Exactly half is enough, however the shares of the batches were rounded.
        covered = self.inside >= 0.5 * (1 - 1e-9) * self.fair
        return {
            "modes": covered[self.fair > 0].double().mean(),
            "strays": self.stray_count / self.count,
        }
