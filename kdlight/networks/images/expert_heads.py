"""Several linear heads on one trunk, as one classifier."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.networks.images.classifier import Classifier, class_layer


class ExpertClassifier(Classifier):
    """The mean of the scores of several heads that read the same features.

    Args:
        trunk: Whose features they read, any classifier that ends in a linear layer, which becomes
            the first of them.
        experts: Number of heads.
        cosine_scale: Scores are this times the cosine of features and weights, as in programs for
            long tails, whose common classes have longer weights; None for plain linear heads.

    Raises:
        InputError: The trunk does not end in a linear layer.
    """

    def __init__(
        self,
        trunk: Classifier,
        experts: PositiveInt = 3,
        cosine_scale: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_classes = trunk.num_classes
        if hasattr(trunk, "shape"):
            self.shape = trunk.shape
        self.cosine_scale = cosine_scale
        width = class_layer(trunk).in_features
        self.others = nn.ModuleList(nn.Linear(width, trunk.num_classes) for _ in range(experts - 1))

    @property
    def experts(self) -> int:
        """Number of heads."""
        return 1 + len(self.others)

    def each(self, image: Tensor) -> Tensor:
        """Scores of every head, (B, experts, num_classes)."""
        features = self.trunk.features(image)
        heads = [class_layer(self.trunk), *self.others]
        if self.cosine_scale is None:
            return torch.stack([head(features) for head in heads], dim=1)
        unit = F.normalize(features, dim=1)
        weights = torch.stack([F.normalize(head.weight, dim=1) for head in heads])
        return self.cosine_scale * torch.einsum("bf,ecf->bec", unit, weights)

    def forward(self, image: Tensor) -> Tensor:
        """Mean scores, (B, num_classes), of images (B, C, H, W) in [-1, 1].

        Scores, not probabilities: their exponents of the class frequencies then cancel.
        """
        return self.each(image).mean(dim=1)
