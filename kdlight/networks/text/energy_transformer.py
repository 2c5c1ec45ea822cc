"""A transformer that judges a whole sequence: one number."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


class EnergyTransformer(Recorded, nn.Module):
    """Clean tokens and the same with masks, (B, L) each, to an energy (B,).

    As EDLM's (Xu et al., arXiv:2410.21357): both embeddings side by side, blocks that see both
    directions, the mean over positions, two layers. The last starts at zero, at the masked model's
    own law. Its parts are named as those of
    :class:`~kdlight.networks.text.token_transformer.TokenTransformer`, whose weights they can take.

    Args:
        vocabulary: Tokens V; the mask is token V.
        width: Channels of a token, a multiple of ``2 * heads``.
        depth: Number of blocks.
        heads: Attention heads.
        ratio: Hidden width of the perceptrons over ``width``.

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        width: PositiveInt = 128,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
    ) -> None:
        super().__init__()
        self.head_width = checked_head_width(width, heads)
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.join = nn.Linear(2 * width, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, ratio, 0.0, causal=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        last = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.judge = nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)

    def forward(self, clean: Tensor, seen: Tensor) -> Tensor:
        """Energy of ``clean`` (B, L) that fills the masks of ``seen`` (B, L), (B,)."""
        both = torch.cat([self.embedding(seen), self.embedding(clean)], dim=2)
        hidden = self.join(both)
        angles = rotary_angles(clean.shape[1], self.head_width).to(clean.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        return self.judge(self.norm(hidden).mean(dim=1))[:, 0]  # type: ignore[no-any-return]
