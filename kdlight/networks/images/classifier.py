"""Classifiers of images: what all have in common, a small one, and several as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.errors import InputError

CLASSES = "classes.json"
"""Names of the classes and shape of the images of a run, for who exports its classifiers."""


class Classifier(Recorded, nn.Module):
    """Base of all classifiers.

    Attributes:
        num_classes: Number of classes.
        provenance: Where its weights came from; None if they were drawn here.
    """

    num_classes: int
    provenance: dict[str, str] | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (B, num_classes), of images (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def features(self, image: Tensor) -> Tensor:
        """What its class layer reads, (B, K), of images (B, C, H, W) in [-1, 1].

        Raises:
            InputError: It does not end in a linear layer.
        """
        return with_features(self, image)[0]


class SmallClassifier(Classifier):
    """Three convolutions, a feature layer, a linear head.

    Args:
        channels: Image channels.
        size: Height and width of the image, a multiple of 4.
        num_classes: Number of classes.
        width: Channels of the first convolution; the later ones have twice as many.
        features: Width of the feature layer that :meth:`features` returns.
    """

    def __init__(
        self,
        channels: PositiveInt = 1,
        size: PositiveInt = 8,
        num_classes: PositiveInt = 10,
        width: PositiveInt = 32,
        features: PositiveInt = 64,
    ) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.num_classes = num_classes
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(2 * width * (size // 4) ** 2, features),
            nn.SiLU(),
        )
        self.head = nn.Linear(features, num_classes)

    def features(self, image: Tensor) -> Tensor:
        """Penultimate activations, (B, features), of images (B, C, H, W) in [-1, 1]."""
        return self.trunk(image)  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (B, num_classes), of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(image))  # type: ignore[no-any-return]


class EnsembleClassifier(Classifier):
    """Several classifiers as one: the mean of their probabilities.

    Args:
        members: Classifiers of the same classes.

    Raises:
        InputError: There is none, or they have unlike numbers of classes.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        counts = sorted({member.num_classes for member in members})
        if len(counts) != 1:
            raise InputError(
                f"members: expected classifiers of the same classes, found numbers {counts}."
            )
        self.members = nn.ModuleList(members)
        self.num_classes = counts[0]

    def forward(self, image: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, (B, num_classes)."""
        each = torch.stack([member(image).float().log_softmax(dim=1) for member in self.members])
        return torch.logsumexp(each, dim=0) - torch.tensor(float(len(each))).log()


class ConfusedClassifier(Classifier):
    """A classifier that errs where it is unsure: there its two likeliest classes change places.

    For experiments with a teacher that is wrong near the borders of classes, its own or those of
    the student that asks it.

    Args:
        member: The classifier.
        margin: Where the probabilities of the two likeliest are closer than this.
        judge: Whose probabilities these are; None for the classifier's own.
    """

    def __init__(
        self, member: Classifier, margin: Probability, judge: Classifier | None = None
    ) -> None:
        super().__init__()
        self.member, self.margin, self.judge = member, margin, judge
        self.num_classes = member.num_classes

    def forward(self, image: Tensor) -> Tensor:
        """Scores, (B, num_classes)."""
        scores: Tensor = self.member(image)
        best, place = scores.topk(2, dim=1)
        judged = scores if self.judge is None else self.judge(image)
        law = judged.float().softmax(dim=1).topk(2, dim=1).values
        unsure = (law[:, :1] - law[:, 1:]) < self.margin
        return scores.scatter(1, place, torch.where(unsure, best.flip(1), best))


def class_layer(classifier: Classifier) -> nn.Linear:
    """The layer that gives the classes their scores: the last linear one of so many outputs.

    Raises:
        InputError: There is none.
    """
    layers = [each for each in classifier.modules() if isinstance(each, nn.Linear)]
    fitting = [each for each in layers if each.out_features == classifier.num_classes]
    if not fitting:
        raise InputError(
            f"expected a classifier that ends in a linear layer of {classifier.num_classes} "
            f"classes, found none in {type(classifier).__name__}."
        )
    return fitting[-1]


def with_features(classifier: Classifier, image: Tensor) -> tuple[Tensor, Tensor]:
    """What the class layer reads, (B, K), and the scores, (B, num_classes), of any classifier."""
    seen: list[Tensor] = []
    hook = class_layer(classifier).register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    try:
        scores = classifier(image)
    finally:
        hook.remove()
    return seen[-1], scores
