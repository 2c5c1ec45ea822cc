"""Classifiers of torchvision, transformers and timm behind one face; each is rebuilt by its name.

All take images in [-1, 1] of the run's data and bring them into the form the library trained on:
grey to three channels, another size if asked for, its mean and spread.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1], as torchvision's weights were trained with."""


class LibraryClassifier(Classifier):
    """Base of these: :attr:`model` is the library's own network, of whose weights it holds a copy.

    Args:
        model: The network; it takes (B, 3, H, W).
        num_classes: Number of classes.
        size: Images are resized to this height and width (bilinear, antialiased); None for as they
            come.
        mean: Of each channel of pixels in [0, 1].
        std: Spread of each channel.
        norm_momentum: Share of a batch in the running statistics of batch normalisation; None for
            the library's. MobileNetV3's 0.01 wants thousands of updates before its evaluation mode
            means anything; short trainings take 0.1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        norm_momentum: float | None = None,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(
                f"mean, std: expected three numbers each, spreads above 0, found {mean} and {std}."
            )
        self.model = model
        if norm_momentum is not None:
            for layer in model.modules():
                if isinstance(layer, _NormBase):
                    layer.momentum = norm_momentum
        self.num_classes = num_classes
        self.size = size
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def prepared(self, image: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W) in [-1, 1] as the network takes them."""
        if self.size is not None and image.shape[2:] != (self.size, self.size):
            shape = (self.size, self.size)
            image = F.interpolate(image, shape, mode="bilinear", antialias=True)
        return (image.expand(-1, 3, -1, -1) / 2 + 0.5 - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (B, num_classes), of images (B, 1 or 3, H, W) in [-1, 1]."""
        found = self.model(self.prepared(image))
        # transformers answers with a record, torchvision's Inception while it trains.
        scores: Tensor = found if isinstance(found, Tensor) else found.logits
        return scores


class TorchvisionClassifier(LibraryClassifier):
    """A classifier of torchvision by its name, such as ``resnet50`` or ``mobilenet_v3_small``.

    Args:
        name: As ``torchvision.models.list_models`` has it.
        num_classes: Number of classes.
        settings: Other arguments of the network, such as ``{width_mult: 0.5}``.
        size: See :class:`LibraryClassifier`; vision transformers take one size alone.
        mean: Of each channel of pixels in [0, 1].
        std: Spread of each channel.
        norm_momentum: See :class:`LibraryClassifier`.

    Raises:
        InputError: torchvision has no such classifier, or it takes no such argument.
    """

    def __init__(
        self,
        name: str,
        num_classes: PositiveInt = 1000,
        settings: dict[str, Any] | None = None,
        size: PositiveInt | None = None,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = SPREAD,
        norm_momentum: PositiveFloat | None = None,
    ) -> None:
        from torchvision import models

        if name not in models.list_models(module=models):
            raise InputError(f"name: expected a classifier of torchvision, found {name!r}.")
        try:
            made = models.get_model(name, weights=None, num_classes=num_classes, **(settings or {}))
        except (TypeError, ValueError) as error:
            raise InputError(f"settings: torchvision's {name}: {error}.") from None
        super().__init__(made, num_classes, size, mean, std, norm_momentum)
        self.name = name


class TransformersClassifier(LibraryClassifier):
    """An image classifier of transformers by its configuration.

    Args:
        config: As transformers writes it (``config.json``).
        size: See :class:`LibraryClassifier`.
        mean: Of each channel of pixels in [0, 1].
        std: Spread of each channel.

    Raises:
        InputError: transformers knows no such model.
    """

    def __init__(
        self,
        config: dict[str, Any],
        size: PositiveInt | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        from transformers import AutoConfig, AutoModelForImageClassification

        known = {key: value for key, value in config.items() if key != "model_type"}
        try:
            settings = AutoConfig.for_model(str(config.get("model_type")), **known)
            made = AutoModelForImageClassification.from_config(settings)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(f"config: expected one of an image classifier, {reason}.") from None
        super().__init__(made, int(settings.num_labels), size, mean, std)


class TimmClassifier(LibraryClassifier):
    """A classifier of timm by its name, such as ``efficientnet_b0``; of the extra ``timm``.

    Args:
        name: As ``timm.list_models`` has it.
        num_classes: Number of classes.
        settings: Other arguments of the network.
        size: See :class:`LibraryClassifier`.
        mean: Of each channel of pixels in [0, 1].
        std: Spread of each channel.
        norm_momentum: See :class:`LibraryClassifier`.

    Raises:
        InputError: timm is not installed, has no such classifier, or it takes no such argument.
    """

    def __init__(
        self,
        name: str,
        num_classes: PositiveInt = 1000,
        settings: dict[str, Any] | None = None,
        size: PositiveInt | None = None,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = SPREAD,
        norm_momentum: PositiveFloat | None = None,
    ) -> None:
        if importlib.util.find_spec("timm") is None:
            raise InputError(f"{name} needs the package timm: pip install 'kdlight[timm]'.")
        import timm

        if not timm.is_model(name):
            raise InputError(f"name: expected a classifier of timm, found {name!r}.")
        try:
            made = timm.create_model(
                name, pretrained=False, num_classes=num_classes, **(settings or {})
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"settings: timm's {name}: {error}.") from None
        super().__init__(made, num_classes, size, mean, std, norm_momentum)
        self.name = name
