"""Teachers with images and texts in one space: CLIPs of transformers, and one made for tests."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.networks.images.text_classifier import ImageTextEncoder
from kdlight.storage.pretrained import one_sentence, pretrained, whole


class CLIPTeacher(ImageTextEncoder):
    """A CLIP-shaped model of transformers: two towers with a projection each.

    Args:
        path: Folder, or name on the hub, of the model and its processor.

    Raises:
        InputError: There is no such model with all its weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: str) -> None:
        super().__init__()
        from transformers import AutoModel, AutoProcessor

        expected = "a model of images and texts of transformers"
        self.network: Any = whole(AutoModel, path, expected, dtype=torch.float32)
        processor: Any = pretrained(AutoProcessor, path, expected)
        with one_sentence(path, expected):  # another kind of model has not these parts
            self.tokenizer, seen = processor.tokenizer, processor.image_processor
            size = seen.crop_size if getattr(seen, "crop_size", None) else seen.size
            self.size = (int(size["height"]), int(size["width"]))
            self.register_buffer("mean", torch.tensor(seen.image_mean).view(3, 1, 1))
            self.register_buffer("std", torch.tensor(seen.image_std).view(3, 1, 1))
            self.eval()
            self.width = self.text_features(["a"]).shape[1]
        self.provenance = {"source": path}

    @torch.no_grad()
    def image_features(self, image: Tensor) -> Tensor:
        pixels = image.expand(-1, 3, -1, -1)
        if pixels.shape[2:] != self.size:
            pixels = F.interpolate(
                pixels, self.size, mode="bicubic", antialias=True, align_corners=False
            )
        pixels = (pixels.clamp(-1, 1) / 2 + 0.5 - self.mean) / self.std
        return _embedded(self.network.get_image_features(pixel_values=pixels))

    @torch.no_grad()
    def text_features(self, texts: list[str]) -> Tensor:
        given = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
        return _embedded(self.network.get_text_features(**given.to(self.mean.device)))


def _embedded(found: Any) -> Tensor:
    """The features in what transformers answers, a tensor or a record by its version."""
    features: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return features


class ComposedTeacher(ImageTextEncoder):
    """Made of a classifier: two images in one, each a word; a text is two words.

    For experiments with :class:`~datamodules.images.side_by_side.SideBySideDataModule`, whose
    pictures have their first image at the upper left and their second at the lower right. A feature
    is the sum of a vector of the first word and one of the second, weighed by what the classifier
    says of each: it knows pairs that it never saw, as far as the classifier is right.

    Args:
        classifier: Tells single images apart.
        words: A word for each of its classes.
        width: Numbers of a feature.
        seed: Of the vectors.

    Raises:
        InputError: Not as many words as classes.
    """

    vectors: Tensor

    def __init__(
        self, classifier: Classifier, words: list[str], width: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        if len(words) != classifier.num_classes:
            raise InputError(
                f"words: expected one for each of {classifier.num_classes} classes, found "
                f"{len(words)}."
            )
        self.classifier, self.width = classifier, width
        self.words = {word: index for index, word in enumerate(words)}
        source = torch.Generator().manual_seed(seed)
        self.vectors = nn.Buffer(torch.randn(2, len(words), width, generator=source))

    def image_features(self, image: Tensor) -> Tensor:
        height, width = image.shape[2] // 2, image.shape[3] // 2
        parts = (image[..., :height, :width], image[..., height:, width:])
        laws = [self.classifier(part).softmax(dim=1) for part in parts]
        found: Tensor = laws[0] @ self.vectors[0] + laws[1] @ self.vectors[1]
        return found

    def text_features(self, texts: list[str]) -> Tensor:
        made = []
        for text in texts:
            said = [self.words[word] for word in text.split() if word in self.words]
            if len(said) != 2:
                raise InputError(f"texts: expected two of its words in {text!r}.")
            made.append(self.vectors[0, said[0]] + self.vectors[1, said[1]])
        return torch.stack(made)
