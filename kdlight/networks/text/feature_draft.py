"""A layer that foresees what a model's head will see: EAGLE's draft, and FSPAD's (2408.15562)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


class Foreseen(NamedTuple):
    """What is foreseen of the next place, (B, L, D) each.

    Attributes:
        shown: For the model's head, which makes logits of it.
        fed: For the next step of the draft, in the place of the model's own feature.
    """

    shown: Tensor
    fed: Tensor


class _Halves(TransformerBlock):
    """A block whose perceptron ends in two halves, each with the residual."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__(width, heads, ratio, 0.0, causal=True)
        hidden = int(ratio * width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, 2 * width)
        )

    def fed(self, mixed: Tensor) -> Tensor:
        found: Tensor = self.mlp(self.mlp_norm(mixed))
        return torch.cat([mixed, mixed], dim=2) + found


class FeatureDraft(Recorded, nn.Module):
    """One layer over pairs of a model's feature and the token that it led to.

    At place i it reads the feature f_i, of which the model's head makes the law of token i, and
    the embedding of token i; it foresees f_(i + 1). Embedding and head are the model's.

    Args:
        width: Channels D of the model.
        heads: Attention heads.
        ratio: Hidden width of the perceptrons over ``width``.
        sampling: Whether the token gates what is taken of the feature.
        alignment: Whether what the head sees and what is fed back are two halves of the last
            projection, each with a loss of its own. With both off it is EAGLE's (2401.15077).

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``.
    """

    def __init__(
        self,
        width: PositiveInt,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 2.0,
        sampling: bool = True,
        alignment: bool = True,
    ) -> None:
        super().__init__()
        self.width, self.head_width = width, checked_head_width(width, heads)
        self.join = nn.Linear(2 * width, width)
        hidden = int(ratio * width)
        self.gate = nn.Linear(width, hidden) if sampling else None
        self.up = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden)) if sampling else None
        self.down = nn.Linear(hidden, width) if sampling else None
        self.block = (
            _Halves(width, heads, ratio)
            if alignment
            else TransformerBlock(width, heads, ratio, 0.0, causal=True)
        )

    def forward(self, embedded: Tensor, features: Tensor) -> Foreseen:
        """What is foreseen at every place.

        Args:
            embedded: Of the tokens, (B, L, D).
            features: Of which they were drawn, (B, L, D).
        """
        joined = self.join(torch.cat([embedded, features], dim=2))
        if self.gate is not None and self.up is not None and self.down is not None:
            gated = nn.functional.silu(self.gate(embedded)) * self.up(joined)
            joined = joined + self.down(gated)
        angles = rotary_angles(joined.shape[1], self.head_width).to(joined.device)
        halves = self.block(joined, angles).split(self.width, dim=2)
        return Foreseen(halves[0], halves[-1])
