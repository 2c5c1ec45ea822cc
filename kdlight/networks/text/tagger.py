"""A small transformer that gives every token a tag."""

from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


class TokenTagger(Recorded, nn.Module):
    """Tokens (B, L) to logits of tags (B, L, tags), each token seeing both sides.

    Args:
        vocabulary: Tokens V.
        tags: Tags.
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
        tags: PositiveInt,
        width: PositiveInt = 64,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
    ) -> None:
        super().__init__()
        self.tags = tags
        self.head_width = checked_head_width(width, heads)
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, ratio, 0.0, causal=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tags)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, tags)."""
        hidden = self.embedding(tokens)
        angles = rotary_angles(tokens.shape[1], self.head_width).to(tokens.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]
