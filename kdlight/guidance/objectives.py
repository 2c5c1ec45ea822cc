"""How features of a codec are compared with a teacher's: losses of ``losses.guidance`` as parts."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdlight.codec.codebook import kmeans, nearest
from kdlight.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from kdlight.errors import InputError
from kdlight.losses.guidance import (
    check_features,
    cosine_loss,
    d_axis_loss,
    global_contrastive_loss,
    mse_loss,
    pseudo_label_loss,
    t_axis_loss,
    windowed_contrastive_loss,
)


class Objective(nn.Module):
    """Base of the comparisons: student (B, F, W), teacher (B, F, D) and a mask (B, F) to ().

    Attributes:
        hides: Whether the student is to lose something: a head would learn to lose it instead.
    """

    hides = False

    def width(self, teacher: int) -> int:
        """Channels W that the student must have, for a teacher of ``teacher`` channels."""
        return teacher

    def prepare(self, features: Iterable[Tensor]) -> None:
        """Look at the teacher's features of training utterances, (F, D) each, before training."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        raise NotImplementedError


class DAxis(Objective):
    """Time courses of dimensions, :func:`~kdlight.losses.guidance.d_axis_loss`."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return d_axis_loss(student, teacher, mask)


class TAxis(Objective):
    """Vectors of frames, :func:`~kdlight.losses.guidance.t_axis_loss`.

    Args:
        l1_weight: Weight of the mean absolute difference.
    """

    def __init__(self, l1_weight: NonNegativeFloat = 0.0) -> None:
        super().__init__()
        self.l1_weight = l1_weight

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return t_axis_loss(student, teacher, mask, self.l1_weight)


class Cosine(Objective):
    """One minus the cosine of each frame, :func:`~kdlight.losses.guidance.cosine_loss`."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return cosine_loss(student, teacher, mask)


class MeanSquare(Objective):
    """Squared differences, :func:`~kdlight.losses.guidance.mse_loss`."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return mse_loss(student, teacher, mask)


class GlobalContrast(Objective):
    """Utterances told apart, :func:`~kdlight.losses.guidance.global_contrastive_loss`.

    Args:
        temperature: Divides the cosines.
    """

    def __init__(self, temperature: PositiveFloat = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return global_contrastive_loss(student, teacher, mask, self.temperature)


class WindowedContrast(Objective):
    """Frames told apart, :func:`~kdlight.losses.guidance.windowed_contrastive_loss`.

    Args:
        window: Neighbours on each side.
        temperature: Divides the cosines.
    """

    def __init__(self, window: PositiveInt = 8, temperature: PositiveFloat = 0.1) -> None:
        super().__init__()
        self.window = window
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return windowed_contrastive_loss(student, teacher, mask, self.window, self.temperature)


class PseudoLabels(Objective):
    """Cross-entropy with the k-means units of the teacher (HuBERT's targets, arXiv:2106.07447).

    Units are found once before training, from the first frames of the training utterances, and
    are part of the checkpoint.

    Args:
        clusters: Number of units K.
        frames: Most frames to find them from.
        iterations: Lloyd steps.
        seed: Of the start.

    Attributes:
        centroids: (K, D); empty before :meth:`prepare`.
    """

    centroids: Tensor

    def __init__(
        self,
        clusters: PositiveInt = 100,
        frames: PositiveInt = 100_000,
        iterations: PositiveInt = 20,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        for name, value in (("clusters", clusters), ("frames", frames), ("iterations", iterations)):
            if value < 1:
                raise InputError(f"{name}: expected at least 1, found {value}.")
        self.clusters = clusters
        self.frames = frames
        self.iterations = iterations
        self.seed = seed
        self.register_buffer("centroids", torch.empty(0))

    def width(self, teacher: int) -> int:
        if not self.centroids.numel():
            # So that a checkpoint finds a place to load into; zeros are recognised as no units.
            self.centroids = torch.zeros(self.clusters, teacher)
        return self.clusters

    def prepare(self, features: Iterable[Tensor]) -> None:
        if self.centroids.any():
            return  # a resumed run keeps its units
        gathered, count = [], 0
        for each in features:
            gathered.append(each.float().cpu())
            count += len(each)
            if count >= self.frames:
                break
        if count < self.clusters:
            raise InputError(
                f"clusters: expected at most {count}, the teacher's frames of the training data, "
                f"found {self.clusters}."
            )
        samples = torch.cat(gathered)[: self.frames]
        generator = torch.Generator().manual_seed(self.seed)
        found, _ = kmeans(samples, self.clusters, self.iterations, generator)
        self.centroids = found.to(self.centroids.device)

    def units(self, features: Tensor) -> Tensor:
        """The nearest unit (B, F) of each frame of (B, F, D)."""
        check_features("teacher", features)
        return nearest(features.flatten(0, 1), self.centroids).view(features.shape[:2])

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return pseudo_label_loss(student, self.units(teacher), mask)
