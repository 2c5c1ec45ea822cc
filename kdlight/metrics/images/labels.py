"""Does a class-conditional generator give the class it was asked for?"""

from pathlib import Path

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.extractors import as_classifier, check_images
from kdlight.networks.images.classifier import SmallClassifier


class LabelAccuracy(SampleMetric):
    """Share of generated images that a classifier assigns to the class that was asked for.

    Blind to variety: one perfect image per class scores 1. torchmetrics' ``MulticlassAccuracy``
    counts the same; it is not used because a NaN image would get a class like any other.

    ``compute()`` returns ``accuracy`` in [0, 1] and ``non_finite``.

    Args:
        classifier: The judge, its file, or the name of a bundled one.
    """

    higher_is_better = True
    names = ("accuracy",)
    count: Tensor
    correct: Tensor

    def __init__(self, classifier: SmallClassifier | Path | str) -> None:
        super().__init__()
        self.classifier = as_classifier(classifier)
        self.add_sums(count=(), correct=())

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            images: Generated images, (B, C, H, W) in [-1, 1].
            labels: The classes asked for, (B,) int64.

        Raises:
            InputError: The images have another size, or the labels other classes, than the judge.
        """
        check_images(self.classifier, images)
        classes = self.classifier.num_classes
        if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise InputError(
                f"labels: the classifier knows {classes} classes, "
                f"found labels {int(labels.min())} to {int(labels.max())}."
            )
        dtype = self.classifier.head.weight.dtype
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            scores = self.classifier(images.to(dtype))
        finite = images.flatten(1).isfinite().all(dim=1) & scores.isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        self.add_to("count", finite.sum())
        self.add_to("correct", ((scores.argmax(dim=1) == labels) & finite).sum())

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        return {"accuracy": self.correct / self.count}
