"""Distances between two batches of samples, one number for each pair: typed parts of a method."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.networks.activations import recorded, require_layers
from kdlight.storage.files import load_tensors


class Distance(Recorded):
    """Base of the distances. The target carries no gradient; norms are taken in float32."""

    def __call__(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Distances (B,) of ``estimate`` (B, ...) from ``target`` (B, ...)."""
        with torch.autocast(estimate.device.type, enabled=False):
            dtype = torch.promote_types(estimate.dtype, torch.float32)
            return self.measure(estimate.to(dtype), target.detach().to(dtype))

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        """The formula."""
        raise NotImplementedError


class SquaredL2(Distance):
    """``mean_i (a_i - b_i)^2``."""

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return (estimate - target).flatten(1).square().mean(1)


class L1(Distance):
    """``mean_i |a_i - b_i|``."""

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return (estimate - target).flatten(1).abs().mean(1)


class PseudoHuber(Distance):
    """``sqrt(|a - b|^2 + c^2) - c``, the norm over the whole sample (arXiv:2310.14189, eq. 9).

    Not element by element, as some public versions have it: what is wanted is a gradient whose
    length hardly depends on how far off a *sample* is.

    Args:
        c: Distance at which it turns from a square into a norm; None is ``0.00054 sqrt(d)`` for
            samples of d numbers. 0 is the norm itself (arXiv:2406.14548).
    """

    def __init__(self, c: float | None = None) -> None:
        if c is not None and c < 0:
            raise InputError(f"c: expected a number of at least 0, found {c}.")
        self.c = c

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        difference = (estimate - target).flatten(1)
        c = 0.00054 * math.sqrt(difference.shape[1]) if self.c is None else self.c
        square = difference.square().sum(1)
        if c > 0:
            return (square + c**2).sqrt() - c
        # The norm has no gradient where the two are equal; 0 is its subgradient.
        return torch.where(square > 0, square, 1).sqrt() * (square > 0)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Means and standard deviations of ImageNet's channels, of images in [0, 1]."""


class FeatureDistance(Distance):
    """Distance of normalised hidden activations, as LPIPS measures it (arXiv:1801.03924, eq. 1).

    Every layer's activations are scaled to unit length at each place; the squared differences are
    summed over channels, averaged over places and summed over layers. The network that judges is
    frozen and not part of a method's weights.

    Args:
        network: Judges images.
        layers: Names of the submodules whose outputs are compared.
        inputs: What the network takes: ``signed``, images in [-1, 1] as they are; ``imagenet``, the
            means and deviations of ImageNet, for which torchvision's networks are trained.
        size: Side to which smaller images are enlarged (bilinearly, as the consistency models'
            release does to 224 before LPIPS); None leaves them.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: list[str],
        inputs: Literal["signed", "imagenet"] = "signed",
        size: PositiveInt | None = None,
    ) -> None:
        require_layers(network, layers)
        if inputs not in ("signed", "imagenet"):
            raise InputError(f"inputs: expected signed or imagenet, found {inputs!r}.")
        self.network = network.requires_grad_(False).eval()
        self.layers = list(layers)
        self.inputs, self.size = inputs, size

    def _prepared(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] as the network wants them."""
        if self.size is not None and min(images.shape[-2:]) < self.size:
            images = nn.functional.interpolate(images, (self.size, self.size), mode="bilinear")
        if self.inputs == "signed":
            return images
        mean, deviation = (images.new_tensor(each).reshape(3, 1, 1) for each in IMAGENET)
        return ((images + 1) / 2 - mean) / deviation

    def _activations(self, images: Tensor) -> list[Tensor]:
        with recorded(self.network.to(images.device), self.layers) as found:
            self.network(self._prepared(images))
        return [
            self._unit(layer.flatten(2) if layer.ndim > 2 else layer[..., None]) for layer in found
        ]

    @staticmethod
    def _unit(layer: Tensor) -> Tensor:
        return nn.functional.normalize(layer)

    def _weighted(self, square: Tensor, index: int) -> Tensor:
        """Squared differences (B, C, P) of a layer, weighed by channel; here all alike."""
        return square

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            expected = self._activations(target)
        pairs = zip(self._activations(estimate), expected, strict=True)
        squares = [self._weighted((a - b).square(), index) for index, (a, b) in enumerate(pairs)]
        return torch.stack([square.sum(1).mean(1) for square in squares]).sum(0)


VGG16_LAYERS = ["features.3", "features.8", "features.15", "features.22", "features.29"]
"""The last activations before each halving of torchvision's VGG-16."""


class LPIPS(FeatureDistance):
    """Learnt similarity of image patches (Zhang et al. 2018, arXiv:1801.03924), with VGG-16.

    The channels of every layer have the authors' learnt weights, which torchmetrics brings along.

    Args:
        network: torchvision's ``vgg16``, with its ImageNet weights.
        size: See :class:`FeatureDistance`; 224 in the consistency models' release.
        average_pooling: Average where VGG-16 takes the largest value, as that release does; the
            authors of LPIPS do not.

    Raises:
        InputError: The network is no VGG-16.
    """

    def __init__(
        self, network: nn.Module, size: PositiveInt | None = None, average_pooling: bool = False
    ) -> None:
        super().__init__(network, VGG16_LAYERS, "imagenet", size)
        folder = files("torchmetrics").joinpath("functional/image/lpips_models")
        learnt = load_tensors(Path(str(folder.joinpath("vgg.pth"))))
        # One (1, C, 1, 1) for each layer, in their order.
        self.channels = [weight.reshape(-1, 1) for weight in learnt.values()]
        if average_pooling:
            for name, module in list(network.named_modules()):
                if isinstance(module, nn.MaxPool2d):
                    network.set_submodule(name, nn.AvgPool2d(2))

    @staticmethod
    def _unit(layer: Tensor) -> Tensor:
        return layer / (layer.square().sum(1, keepdim=True) + 1e-8).sqrt()

    def _weighted(self, square: Tensor, index: int) -> Tensor:
        weighted: Tensor = self.channels[index].to(square) * square
        return weighted
