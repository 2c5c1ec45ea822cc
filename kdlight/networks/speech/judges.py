"""What the discriminators of audio share: a judgement, and several of them as one."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class Judgement(NamedTuple):
    """What one sub-discriminator says.

    Attributes:
        logits: High for real audio, (B, ...).
        features: Outputs of its inner layers, for feature matching, each (B, ...).
    """

    logits: Tensor
    features: tuple[Tensor, ...]


class Discriminator(Recorded, nn.Module):
    """Base: audio (B, 1, T) to the judgements of its sub-discriminators."""

    def forward(self, audio: Tensor) -> list[Judgement]:
        """The judgements of (B, 1, T)."""
        raise NotImplementedError


class Ensemble(Discriminator):
    """Several discriminators as one.

    Args:
        members: Their judgements follow each other in this order.
    """

    def __init__(self, members: Sequence[Discriminator]) -> None:
        super().__init__()
        if not members:
            raise InputError("members: expected at least one discriminator, found none.")
        self.members = nn.ModuleList(members)

    def forward(self, audio: Tensor) -> list[Judgement]:
        return [judgement for member in self.members for judgement in member(audio)]


class ConvStack(nn.Module):
    """Convolutions with leaky ReLU between; the last one gives the logits.

    Args:
        convolutions: In order, weight-normalised here.
        slope: Of the leaky ReLU.
    """

    def __init__(self, convolutions: Sequence[nn.Module], slope: float = 0.1) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(weight_norm(layer) for layer in convolutions)
        self.slope = slope

    def forward(self, x: Tensor) -> Judgement:
        """Judge (B, C, ...)."""
        features = []
        *inner, last = self.convolutions
        for layer in inner:
            x = F.leaky_relu(layer(x), self.slope)
            features.append(x)
        return Judgement(last(x), tuple(features))
