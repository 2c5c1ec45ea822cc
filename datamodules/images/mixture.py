"""Points of a Gaussian mixture, whose exact denoiser is known: data for tests and 2-D pictures."""

import math

import torch

from datamodules.images.base import ImageDataModule, Splits
from datamodules.loader import Batch
from datamodules.order import positive, seeded
from kdlight.core.ranges import PositiveInt
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.modes import ModeCoverage


def ring(
    components: int = 8, radius: float = 0.7, std: float = 0.03, labelled: bool = False
) -> MixtureDenoiser:
    """Equal Gaussians on a circle in the plane. A config can name this in place of the class.

    With the default radius each coordinate has standard deviation 0.5, EDM's ``sigma_data``.

    Args:
        components: Number of Gaussians.
        radius: Radius of the circle of their means.
        std: Standard deviation of each.
        labelled: Whether a label selects one.
    """
    positive("components", components)
    angles = [2 * math.pi * k / components for k in range(components)]
    means = [[radius * math.cos(angle), radius * math.sin(angle)] for angle in angles]
    return MixtureDenoiser(means, variances=std**2, labelled=labelled)


def square(
    side: int = 5, extent: float = 0.7, std: float = 0.03, labelled: bool = False
) -> MixtureDenoiser:
    """Equal Gaussians on a square lattice. A config can name this in place of the class.

    Args:
        side: Gaussians along one side.
        extent: Means lie in [-extent, extent] along both axes.
        std: Standard deviation of each.
        labelled: Whether a label selects one.
    """
    positive("side", side, 2)
    ticks = [extent * (2 * k / (side - 1) - 1) for k in range(side)]
    means = [[x, y] for y in ticks for x in ticks]
    return MixtureDenoiser(means, variances=std**2, labelled=labelled)


class GaussianMixtureDataModule(ImageDataModule):
    """A fixed set of exact draws; batches are ``{"image": (B, d)}``, and the label if labelled.

    Args:
        mixture: The distribution, for instance ``datamodules.images.mixture.ring``.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part, drawn independently.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the points do not depend on it.
    """

    def __init__(
        self,
        mixture: MixtureDenoiser,
        num_samples: PositiveInt = 50_000,
        num_heldout: PositiveInt = 10_000,
        batch_size: int = 256,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.mixture = mixture
        self.num_samples = num_samples
        self.num_heldout = num_heldout

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.mixture.means.shape[1],)

    @property
    def class_names(self) -> list[str]:
        return [str(component) for component in range(self.mixture.num_classes)]

    def judges(self) -> list[SampleMetric]:
        """The modes that are covered, and the strays."""
        return [ModeCoverage(self.mixture)]

    def read(self) -> Splits:
        training, heldout = self._draw(self.num_samples, 0), self._draw(self.num_heldout, 1)
        return Splits(training, heldout, reference=training)

    def _draw(self, count: int, part: int) -> Batch:
        points, label = self.mixture.draw(count, generator=seeded(0, part))
        if not torch.isfinite(points).all():
            raise InputError("mixture: expected finite means and variances.")
        return {"image": points, "label": label} if self.mixture.labelled else {"image": points}
