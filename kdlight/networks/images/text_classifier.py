"""Classifiers whose classes are texts: what an encoder makes of an image is compared with them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.networks.images.classifier import Classifier


def cosine_scores(features: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Cosines over a temperature, (B, C), in float32: of 1 / 0.07 a bfloat16 keeps two digits.

    Args:
        features: Unit vectors, (B, D).
        texts: Unit vectors, (C, D).
        temperature: Divides the cosines.
    """
    with torch.autocast(features.device.type, enabled=False):
        scores: Tensor = features.float() @ texts.float().T / temperature
    return scores


class TextClassifier(Classifier):
    """Cosines of an image's features with those of a text for each class, over a temperature.

    Args:
        encoder: Any network of classifiers; its ``num_classes`` is the width of the text features.
        num_classes: Number of texts.
        temperature: Divides the cosines.
    """

    texts: Tensor
    answers_for = "its encoder, whose classes are numbers of a feature"

    def __init__(
        self, encoder: Classifier, num_classes: PositiveInt, temperature: PositiveFloat = 0.07
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_classes, self.temperature = num_classes, temperature
        if hasattr(encoder, "shape"):
            self.shape = encoder.shape
        self.register_buffer("texts", torch.zeros(num_classes, encoder.num_classes))

    def features(self, image: Tensor) -> Tensor:
        """Unit vectors, (B, D)."""
        return F.normalize(self.encoder(image).float(), dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (B, num_classes)."""
        return cosine_scores(self.features(image), self.texts, self.temperature)


class ImageTextEncoder(nn.Module):
    """Base of the networks with images and texts in one space.

    Attributes:
        width: Numbers D of a feature.
        provenance: Where its weights came from; None if they were drawn here.
    """

    width: int
    provenance: dict[str, str] | None = None
    answers_for = "its towers, whatever images they take"

    def image_features(self, image: Tensor) -> Tensor:
        """(B, D) of images (B, C, H, W) in [-1, 1]; of any length."""
        raise NotImplementedError

    def text_features(self, texts: list[str]) -> Tensor:
        """(n, D) of n texts; of any length."""
        raise NotImplementedError


class SpokenClassifier(Classifier):
    """An image-text encoder as a classifier of texts, to compare others with.

    Args:
        encoder: The encoder.
        texts: Unit features of a text for each class, (C, D).
        temperature: Divides the cosines.
    """

    def __init__(self, encoder: ImageTextEncoder, texts: Tensor, temperature: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_classes, self.temperature = len(texts), temperature
        self.register_buffer("texts", texts)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (B, num_classes)."""
        own = F.normalize(self.encoder.image_features(image).float(), dim=1)
        return cosine_scores(own, self.get_buffer("texts"), self.temperature)
