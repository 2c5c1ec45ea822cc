"""One guidance of a codec: a teacher's features, some levels, and how the two are compared."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.guidance.objectives import Objective
from kdlight.guidance.sources import FeatureSource


@dataclass
class Guidance:
    """What pulls which levels of a codec to whose features.

    Args:
        source: Where the teacher's features come from.
        objective: How they are compared with the codec's.
        levels: Levels of the quantiser that are pulled, from 1.
        combine: The ``mean`` or the ``sum`` of the levels is compared, or ``each`` for itself, the
            losses averaged. A level that quantiser dropout did not compute is left out.
        head: Maps the levels' channels to the teacher's: ``linear``, a perceptron (``mlp``), or
            ``none`` where they agree. Heads are trained with the codec and are no part of it.
        normalise: Whether the head sees each frame at zero mean and unit variance, so that the
            objective cannot be met by inflating latents.
        start: Iterations without this guidance.
        ramp: Iterations after them over which its weight rises to the full one.

    Raises:
        InputError: A setting is out of range.
    """

    source: FeatureSource
    objective: Objective
    levels: list[int] = field(default_factory=lambda: [1])
    combine: Literal["mean", "sum", "each"] = "mean"
    head: Literal["linear", "mlp", "none"] = "linear"
    normalise: bool = False
    start: int = 0
    ramp: int = 0

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 1 or len(set(self.levels)) < len(self.levels):
            raise InputError(f"levels: expected different numbers from 1, found {self.levels}.")
        if self.objective.hides and self.head != "none":
            raise InputError(
                "head: expected none, for a head would hide what the codec shall, "
                f"found {self.head}."
            )
        for name in ("start", "ramp"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected at least 0, found {getattr(self, name)}.")

    def share(self, iteration: int) -> float:
        """Part of the full weight at an iteration, 0 to 1."""
        if iteration < self.start:
            return 0.0
        return min(1.0, (iteration - self.start + 1) / (self.ramp + 1))

    def make_head(self, name: str, dim: int) -> nn.Module:
        """The head for a codec of ``dim`` channels.

        Raises:
            InputError: There is to be none, and the widths differ.
        """
        width = self.objective.width(self.source.width)
        if self.head == "none" and width != dim:
            raise InputError(
                f"guidances.{name}.head: expected a head, for the codec has {dim} channels and "
                f"the objective takes {width}."
            )
        return Head(dim, width, self.head, self.normalise)

    def chosen(self, levels: tuple[Tensor, ...]) -> list[Tensor]:
        """What the head is given: tensors (B, F, dim) of levels (B, dim, F); none if none is left.

        Args:
            levels: Of :class:`~kdlight.codec.quantization.Quantized`.
        """
        kept = [levels[level - 1].transpose(1, 2) for level in self.levels if level <= len(levels)]
        if not kept or self.combine == "each":
            return kept
        stacked = torch.stack(kept)
        return [stacked.sum(dim=0) if self.combine == "sum" else stacked.mean(dim=0)]


@dataclass
class Fusion:
    """Teacher features that are added to the latents in training (FuseCodec, arXiv:2509.11425).

    FuseCodec's latent fusion as its abstract tells it: features go into the encoder's latent space
    before the quantiser. Here they are mapped linearly and added; the paper's attention is left
    out. Encoding has no teacher, so ``dropout`` decides how often training has none either.

    Args:
        source: Where the features come from.
        dropout: Share of the items that get none, 0 to 1.

    Raises:
        InputError: ``dropout`` is out of range.
    """

    source: FeatureSource
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise InputError(f"dropout: expected a share in [0, 1], found {self.dropout}.")


class Head(nn.Module):
    """Channels of a codec to those of a teacher, frame by frame.

    Args:
        dim: Channels of the codec.
        width: Channels of the teacher.
        kind: ``linear``, ``mlp`` or ``none``.
        normalise: See :class:`Guidance`.
    """

    def __init__(
        self,
        dim: PositiveInt,
        width: PositiveInt,
        kind: Literal["linear", "mlp", "none"],
        normalise: bool,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        layers: dict[str, list[nn.Module]] = {
            "linear": [nn.Linear(dim, width)],
            "mlp": [nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width)],
            "none": [],
        }
        self.layers = nn.Sequential(*layers[kind])

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, dim) to (B, F, width)."""
        if self.normalise:
            features = F.layer_norm(features, features.shape[-1:])
        mapped: Tensor = self.layers(features)
        return mapped
