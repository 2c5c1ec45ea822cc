"""How far a student's samples are from its teacher's, sample by sample."""

from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.extractors import FeatureExtractor


class TeacherGap(SampleMetric):
    """Distance of student to teacher samples made from the same noise and labels.

    Says how faithful the student is, not how good: read it beside the distances to data.
    torchmetrics' ``MeanSquaredError`` has the first figure only.

    ``compute()`` returns

    - ``squared``: mean squared difference per element, in squared data units;
    - ``features``: mean L2 distance of the two feature vectors;
    - ``non_finite``: pairs of which either side holds a NaN or an infinity.

    Args:
        features: Turns images into vectors.
    """

    higher_is_better = False
    names = ("squared", "features")
    features: FeatureExtractor
    count: Tensor
    squared_sum: Tensor
    feature_sum: Tensor

    def __init__(self, features: FeatureExtractor) -> None:
        super().__init__()
        self.features = features
        self.add_sums(count=(), squared_sum=(), feature_sum=())

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add pairs of samples.

        Args:
            student: Samples of the student, (B, C, H, W) or (B, d).
            teacher: Samples of the teacher from the same noise and labels, of the same shape.

        Raises:
            InputError: The shapes differ.
        """
        if student.shape != teacher.shape:
            raise InputError(
                f"teacher: expected samples of shape {tuple(student.shape)}, "
                f"found {tuple(teacher.shape)}."
            )
        squared = (student.double() - teacher.double()).square().flatten(1).mean(dim=1)
        apart = (self.features(student).double() - self.features(teacher).double()).norm(dim=1)
        finite = squared.isfinite() & apart.isfinite()
        self.add_to("non_finite", (~finite).sum())
        self.add_to("count", finite.sum())
        self.add_to("squared_sum", squared[finite].sum())
        self.add_to("feature_sum", apart[finite].sum())

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        return {
            "squared": self.squared_sum / self.count,
            "features": self.feature_sum / self.count,
        }
