"""A class-conditional scale-shift MLP for very small images and for points in the plane."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt, Probability
from kdlight.core.spec import Recorded, rebuilt
from kdlight.diffusion.denoisers import Condition
from kdlight.networks.checkpointing import RecomputedBlock


class FourierFeatures(nn.Module):
    """Sines and cosines of a scalar at geometrically spaced frequencies.

    Args:
        dim: Width of the output; half are sines, half cosines.
        max_frequency: Highest angular frequency; the lowest is 0.25.
    """

    frequencies: Tensor

    def __init__(self, dim: int = 64, max_frequency: float = 32.0) -> None:
        super().__init__()
        ladder = torch.linspace(math.log(0.25), math.log(max_frequency), dim // 2).exp()
        self.register_buffer("frequencies", ladder, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """Embed ``value`` of shape (B,) as (B, dim)."""
        angle = value[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class ScaleShiftBlock(RecomputedBlock):
    """Residual two-layer perceptron, its normalised input scaled and shifted by an embedding."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.up = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def evaluate(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        inner = torch.addcmul(shift, self.norm(hidden), 1 + scale)
        inner = nn.functional.silu(self.up(nn.functional.silu(inner)))
        return hidden + self.down(self.dropout(inner))  # type: ignore[no-any-return]


class ScaleShiftMLP(Recorded, nn.Module):
    """The network of the digits and mixture recipes: flattens its input, keeps its shape.

    Args:
        shape: Shape of one sample without the batch, such as (1, 8, 8) or (2,).
        width: Hidden width.
        depth: Number of residual blocks.
        num_classes: Number of classes; 0 builds an unconditional network. A label of
            ``num_classes`` (or no label) means "no class", as classifier-free guidance needs.
        embedding: Width of the joint embedding of noise level, class and augmentation.
        augment_dim: Width of the augmentation vector (EDM, arXiv:2206.00364, appendix F.2);
            a missing vector means "not augmented".
        dropout: Dropout probability inside each block.
        noise_scale: Factor on the noise number before its embedding, whose frequencies suit
            numbers within 5 or so of 0: 1 for ``EDMDenoiser`` and ``FlowDenoiser``, 0.004 for the
            timesteps of ``VPDenoiser``.
        interval: Whether it is told how far a jump goes, in units of the noise number, as flow
            maps are; a missing number means 0.
    """

    def __init__(
        self,
        shape: Sequence[PositiveInt],
        width: PositiveInt = 384,
        depth: LayerCount = 3,
        num_classes: NonNegativeInt = 0,
        embedding: PositiveInt = 128,
        augment_dim: NonNegativeInt = 0,
        dropout: Probability = 0.0,
        noise_scale: PositiveFloat = 1.0,
        interval: bool = False,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.shape = tuple(shape)
        self.num_classes = num_classes
        self.augment_dim = augment_dim
        self.noise_scale = noise_scale
        self.interval = interval
        self.noise_features = FourierFeatures(64)
        self.noise_embedding = nn.Linear(64, embedding)
        self.class_embedding = nn.Embedding(num_classes + 1, embedding) if num_classes else None
        self.augment_embedding = (
            nn.Linear(augment_dim, embedding, bias=False) if augment_dim else None
        )
        self.interval_embedding = nn.Linear(64, embedding, bias=False) if interval else None
        self.embedding = nn.Linear(embedding, embedding)
        self.input = nn.Linear(size, width)
        self.blocks = nn.ModuleList(
            ScaleShiftBlock(width, embedding, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, size)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def of_width(self, factor: float) -> "ScaleShiftMLP":
        """An untrained network as this one, with ``factor`` times the hidden width."""
        return rebuilt(self, width=max(1, round(factor * self._init_args["width"])))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network F.

        Args:
            x: Scaled noisy input, (B, *shape).
            noise: Noise conditioning c_noise, (B,).
            condition: May hold ``label`` (B,) integers, ``augment`` (B, augment_dim) and
                ``interval`` (B,).

        Returns:
            F of the same shape as ``x``.
        """
        condition = condition or {}
        embedding = self.noise_embedding(self.noise_features(noise * self.noise_scale).to(x.dtype))
        if self.class_embedding is not None:
            label = condition.get("label")
            if label is None:
                label = torch.full((len(x),), self.num_classes, device=x.device)
            embedding = embedding + self.class_embedding(label)
        if self.augment_embedding is not None:
            augment = condition.get("augment")
            if augment is None:
                # Not skipped: every parameter has its gradient, whatever the batch holds.
                augment = x.new_zeros(len(x), self.augment_dim)
            embedding = embedding + self.augment_embedding(augment)
        if self.interval_embedding is not None:
            interval = condition.get("interval", torch.zeros_like(noise)).to(noise.dtype)
            features = self.noise_features(interval * self.noise_scale)
            embedding = embedding + self.interval_embedding(features.to(x.dtype))
        embedding = nn.functional.silu(self.embedding(nn.functional.silu(embedding)))
        hidden = self.input(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return self.output(self.norm(hidden)).reshape(x.shape)  # type: ignore[no-any-return]
