"""Feature extractors: frozen networks that turn images into the vectors that metrics compare."""

import importlib
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import kdlight
from kdlight.core.spec import spec_of
from kdlight.errors import InputError
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.storage.files import load_model, require_file
from kdlight.storage.pictures import to_bytes
from kdlight.storage.pretrained import one_sentence, pretrained, whole


class FeatureExtractor(nn.Module):
    """Base of all extractors: frozen, always in evaluation mode, no gradient, no autocast.

    Attributes:
        name: What the figures made from these features are called, as in ``frechet_pixels``.
        width: Number of features F.
    """

    name: str
    width: int

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def extract(self, images: Tensor) -> Tensor:
        """What a subclass computes: features (B, F) of images in the network's precision."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features, (B, F), of images (B, C, H, W) in [-1, 1].

        Raises:
            InputError: The images do not have the shape that the extractor expects.
        """
        parameter = next(self.parameters(), None)
        with torch.autocast(images.device.type, enabled=False):
            return self.extract(images if parameter is None else images.to(parameter.dtype))


class PixelFeatures(FeatureExtractor):
    """The samples themselves, flattened.

    Args:
        shape: Shape of one sample without the batch, such as (1, 8, 8) or (2,).
    """

    name = "pixels"

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.width = math.prod(self.shape)

    def extract(self, images: Tensor) -> Tensor:
        if images.shape[1:] != self.shape:
            raise InputError(
                f"images: expected samples of shape {self.shape}, found {tuple(images.shape[1:])}."
            )
        return images.flatten(1)


WIDEST = 1024
"""Most pixels (values) that are compared as they are; images of more are pooled."""


class PooledPixels(PixelFeatures):
    """Images averaged down to 8x8 pixels a channel: contrast, colour and layout, no detail.

    A Frechet distance of F features takes matrices of F x F and time in F^3: minutes a row at the
    3,072 values of 32x32 colour pixels, where 192 averages take milliseconds.

    Args:
        shape: Shape of one image, (C, H, W).
    """

    name = "pooled_pixels"
    side = 8

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.width = self.shape[0] * self.side**2

    def extract(self, images: Tensor) -> Tensor:
        pixels = super().extract(images).reshape(-1, *self.shape)
        return nn.functional.adaptive_avg_pool2d(pixels, self.side).flatten(1)


def pixel_space(shape: Sequence[int]) -> PixelFeatures:
    """Pixels as a space to measure in: images of more than :data:`WIDEST` values are pooled."""
    wide = len(shape) == 3 and math.prod(shape) > WIDEST
    return PooledPixels(shape) if wide else PixelFeatures(shape)


class ClassifierFeatures(FeatureExtractor):
    """The feature layer of a :class:`kdlight.networks.images.classifier.SmallClassifier`.

    Args:
        classifier: The classifier, the file of one, or the name of a bundled one.
    """

    name = "features"

    def __init__(self, classifier: SmallClassifier | Path | str) -> None:
        super().__init__()
        self.classifier = as_classifier(classifier)
        self.width = int(self.classifier.head.in_features)

    def extract(self, images: Tensor) -> Tensor:
        check_images(self.classifier, images)
        return self.classifier.features(images)


def bundled_classifier(name: str) -> SmallClassifier:
    """The classifier in ``kdlight/assets/<name>.safetensors``, frozen.

    Raises:
        InputError: There is none of that name.
    """
    assets = Path(str(kdlight.__file__)).parent / "assets"
    path = assets / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in assets.glob("*classifier*.safetensors")))
        raise InputError(
            f"classifier {name!r}: expected a file or one of {known or 'none bundled'}."
        )
    return as_classifier(path)


def as_classifier(source: SmallClassifier | Path | str) -> SmallClassifier:
    """A frozen classifier from one, from its file, or from the name of a bundled one.

    Raises:
        InputError: The source names no classifier.
    """
    if isinstance(source, str) and not source.endswith(".safetensors"):
        return bundled_classifier(source)
    classifier = load_model(Path(source)) if isinstance(source, (str, Path)) else source
    if not isinstance(classifier, SmallClassifier):
        raise InputError(
            f"{source}: expected a SmallClassifier, found {type(classifier).__name__}."
        )
    return classifier.eval().requires_grad_(False)


def check_images(classifier: SmallClassifier, images: Tensor) -> None:
    """Raise :class:`InputError` unless ``images`` (B, C, H, W) are of the classifier's size."""
    made_for = spec_of(classifier)["init_args"]
    expected = (made_for["channels"], made_for["size"], made_for["size"])
    if images.shape[1:] != expected:
        raise InputError(
            f"images: the classifier expects {expected}, found {tuple(images.shape[1:])}."
        )


class InceptionFeatures(FeatureExtractor):
    """The 2048 pooled features of the Inception network of FID (Heusel et al. 2017).

    Needs the extra ``fid`` (torch-fidelity). The plain Frechet distance on these features is the
    FID (arXiv:1706.08500): images are quantised to 8 bits as the published figures do, and grey
    ones are shown as RGB. Nothing is downloaded.

    Args:
        weights: Weights file of torch-fidelity (.pth or .safetensors); None looks for it in the
            cache of torch hub.
        resize: How images come to 299x299 pixels. ``tensorflow``: bilinear without antialiasing,
            as in the published figures of EDM and torch-fidelity. ``clean``: bicubic and
            antialiased, as clean-fid (arXiv:2104.11222); the features are then named
            ``inception_clean``, for its figures are not comparable with the others.

    Raises:
        InputError: The extra or the weights are missing, or the file is damaged.
    """

    width = 2048

    def __init__(
        self,
        weights: Path | str | None = None,
        resize: Literal["tensorflow", "clean"] = "tensorflow",
    ) -> None:
        super().__init__()
        self.name = "inception" if resize == "tensorflow" else "inception_clean"
        self.clean = resize == "clean"
        inception = require_package("torch_fidelity.feature_extractor_inceptionv3", "fid")
        address = str(inception.URL_INCEPTION_V3)
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
        if weights is not None:
            path = Path(weights)
        if not path.is_file():
            raise InputError(f"{path}: no Inception weights there; the file is at {address}.")
        # torch-fidelity unpickles what it is given, so it is given a file that we wrote.
        with tempfile.NamedTemporaryFile(suffix=".pth") as safe:
            torch.save(read_tensors(path), safe.name)
            try:
                self.network = inception.FeatureExtractorInceptionV3("fid", ["2048"], safe.name)
            except RuntimeError:
                raise InputError(
                    f"{path}: not the weights of torch-fidelity's Inception."
                ) from None

    def extract(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise InputError(
                f"images: expected (B, 1 or 3, H, W), found shape {tuple(images.shape)}."
            )
        pixels = to_bytes(images).expand(-1, 3, -1, -1)
        if not self.clean:
            features: Tensor = self.network(pixels)[0]
            return features
        # All layers but the classifier, in the order in which they stand and run; the network's
        # own forward resizes first.
        x = resize(pixels.double(), (299, 299)).clamp(0, 255).to(images.dtype)
        for layer in list(self.network.children())[:-1]:
            x = layer((x - 128) / 128) if layer is self.network.Conv2d_1a_3x3 else layer(x)
        return x.flatten(1)


class TransformersFeatures(FeatureExtractor):
    """Pooled output of a vision model of transformers (DINOv2, ViT, ResNet, CLIP's image tower).

    Args:
        path: Folder or hub id of a model with its image processor.

    Raises:
        InputError: There is no such model.
    """

    name = "transformers"

    def __init__(self, path: str) -> None:
        super().__init__()
        transformers = require_package("transformers", "")
        expected = "a vision model of transformers with its image processor"
        processor = pretrained(transformers.AutoImageProcessor, path, expected)
        model = whole(transformers.AutoModel, path, expected)
        self.network = getattr(model, "vision_model", model).requires_grad_(False).eval()
        with one_sentence(path, expected):
            size = dict(getattr(processor, "crop_size", None) or processor.size)
            edge = size.get("shortest_edge") or 0
            self.size = (int(size.get("height") or edge), int(size.get("width") or edge))
            self.prepare = Normalise(processor.image_mean, processor.image_std)
            self.width = self(torch.zeros(1, 3, *self.size)).shape[1]

    def extract(self, images: Tensor) -> Tensor:
        output = self.network(pixel_values=self.prepare(resize(images, self.size)))
        pooled = getattr(output, "pooler_output", None)
        features: Tensor = output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1)
        return features


class TimmFeatures(FeatureExtractor):
    """Pooled features of a model of timm, which is installed apart.

    Args:
        model: Name of a pretrained model, or ``local-dir:FOLDER``.

    Raises:
        InputError: timm is missing, or it has no such model.
    """

    name = "timm"

    def __init__(self, model: str) -> None:
        super().__init__()
        timm = require_package("timm", "")
        try:
            network = timm.create_model(model, pretrained=True, num_classes=0)
        except (OSError, RuntimeError, ValueError):
            raise InputError(f"{model}: expected a pretrained model of timm.") from None
        self.network = network.requires_grad_(False).eval()
        config = timm.data.resolve_model_data_config(network)
        self.size = tuple(config["input_size"][1:])
        self.prepare = Normalise(config["mean"], config["std"])
        self.width = self(torch.zeros(1, 3, *self.size)).shape[1]

    def extract(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(self.prepare(resize(images, self.size)))
        return features


class Normalise(nn.Module):
    """From [-1, 1] to the mean and standard deviation (of [0, 1] images) a network was made for."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W) as (B, 3, H, W)."""
        return ((images.clamp(-1, 1) + 1) / 2 - self.mean) / self.std


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic resize to (height, width)."""
    return nn.functional.interpolate(images, size=size, mode="bicubic", antialias=True)


def require_package(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0].replace("_", "-")
        what = f"the extra '{extra}' of kdlight" if extra else package
        raise InputError(f"{package} is not installed: install {what}.") from None


def read_tensors(path: Path) -> dict[str, Any]:
    """Weights from a .safetensors or .pth file, without pickled objects.

    Raises:
        InputError: The file is missing or damaged, or holds more than tensors.
    """
    require_file(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, OSError):
        raise InputError(f"{path}: truncated, or not a safetensors file.") from None
    except Exception:  # torch raises a different type for every way a file can be damaged
        raise InputError(f"{path}: truncated, or not a file of weights alone.") from None
