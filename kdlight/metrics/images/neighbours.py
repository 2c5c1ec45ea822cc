"""Distance to the nearest training image, and whether it is suspiciously small."""

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric


def nearest_distance(samples: Tensor, references: Tensor, chunk: int = 2048) -> Tensor:
    """Euclidean distance (B,) of every sample to the nearest reference, float64.

    Args:
        samples: (B, ...).
        references: (N, ...), N at least 1.
        chunk: References compared at once.
    """
    points, others = samples.flatten(1).double(), references.flatten(1)
    best = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
    nearest = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for start in range(0, len(others), chunk):
        distances = torch.cdist(points, others[start : start + chunk].double())
        value, index = distances.min(dim=1)
        nearest = torch.where(value < best, index + start, nearest)
        best = torch.minimum(value, best)
    # cdist multiplies matrices, which leaves about 1e-7 between equal points; this leaves 0.
    return (points - others[nearest].double()).norm(dim=1)  # type: ignore[no-any-return]


class NearestNeighbour(SampleMetric):
    """Mean pixel distance of samples to their nearest training image, and the memorisation ratio.

    ``compute()`` returns

    - ``nearest``: mean L2 distance to the nearest of all training images, in data units;
    - ``memorisation``: mean distance to the nearest training image over the same to the nearest
      held-out image, from equally many of each. About 1 for a generator that learned the
      distribution, 0 for one that repeats its training images. The larger of the two sets is cut
      into disjoint parts of the smaller one's size, in a fixed random order, and the mean over
      the parts is taken, which removes most of the noise of the choice;
    - ``non_finite``.

    Both sets are held whole, on every rank, so that only sums are exchanged. torchmetrics has
    nothing like it.

    Args:
        train: Images the generator was trained on, (N, C, H, W) or points (N, d).
        held_out: Images of the same distribution that it has never seen, (M, ...).
        seed: Seed of the order in which the sets are cut.

    Raises:
        InputError: A set is empty, or the two hold samples of different shapes.
    """

    names = ("nearest", "memorisation")
    train_images: Tensor
    held_out_images: Tensor
    count: Tensor
    nearest_sum: Tensor
    train_sum: Tensor
    held_out_sum: Tensor

    def __init__(self, train: Tensor, held_out: Tensor, seed: int = 0) -> None:
        super().__init__()
        if train.shape[1:] != held_out.shape[1:] or not (len(train) and len(held_out)):
            raise InputError(
                f"held_out: expected samples like train's {tuple(train.shape)}, "
                f"found {tuple(held_out.shape)}."
            )
        self.size = min(len(train), len(held_out))
        generator = torch.Generator().manual_seed(seed)
        for name, images in (("train_images", train), ("held_out_images", held_out)):
            order = torch.randperm(len(images), generator=generator).to(images.device)
            self.register_buffer(name, images.detach()[order].flatten(1), persistent=False)
        self.sample_shape = tuple(train.shape[1:])
        self.add_sums(count=(), nearest_sum=(), train_sum=(), held_out_sum=())

    def _over_parts(self, samples: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest distance (B,) over all references, and its mean (B,) over the equal parts."""
        blocks = torch.split(references, self.size)
        nearest = torch.stack([nearest_distance(samples, block) for block in blocks])
        complete = len(references) // self.size
        return nearest.amin(0), nearest[:complete].mean(0)

    def update(self, images: Tensor) -> None:
        """Add generated images, (B, C, H, W), or points, (B, d), in data units.

        Raises:
            InputError: They have another shape than the training images.
        """
        if tuple(images.shape[1:]) != self.sample_shape:
            raise InputError(
                f"images: expected samples of shape {self.sample_shape}, "
                f"found {tuple(images.shape[1:])}."
            )
        samples = images.flatten(1)
        finite = samples.isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        samples = samples[finite]
        nearest, train = self._over_parts(samples, self.train_images)
        _, held_out = self._over_parts(samples, self.held_out_images)
        self.add_to("count", len(samples))
        self.add_to("nearest_sum", nearest.sum())
        self.add_to("train_sum", train.sum())
        self.add_to("held_out_sum", held_out.sum())

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        return {
            "nearest": self.nearest_sum / self.count,
            "memorisation": self.train_sum / self.held_out_sum,
        }
