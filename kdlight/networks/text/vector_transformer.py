"""A causal transformer of vectors: what a place holds is noise or the code of a token."""

from typing import ClassVar

from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


class VectorTransformer(Recorded, nn.Module):
    """Vectors (B, L, d) to logits (B, L, V); its head starts at zero, at the uniform law.

    Parts are named as those of :class:`~kdlight.networks.text.token_transformer.TokenTransformer`.

    Args:
        dimension: Numbers of a vector d.
        vocabulary: Tokens V.
        width: Channels of a place, a multiple of ``2 * heads``.
        depth: Number of blocks.
        heads: Attention heads.
        ratio: Hidden width of the perceptrons over ``width``.

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``.
    """

    def __init__(
        self,
        dimension: PositiveInt,
        vocabulary: PositiveInt,
        width: PositiveInt = 128,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
    ) -> None:
        super().__init__()
        self.head_width = checked_head_width(width, heads)
        self.enter = nn.Linear(dimension, width)
        self.kind = nn.Embedding(2, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, ratio, 0.0, causal=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    takes_places: ClassVar[bool] = True
    """Whether it can be asked for the logits of some positions alone."""

    def forward(self, vectors: Tensor, known: Tensor, places: Tensor | None = None) -> Tensor:
        """Logits, (B, L, V), of vectors (B, L, d); ``known`` (B, L) says which are codes.

        With ``places`` (B, L) bool those of some positions alone, (N, V).
        """
        hidden = self.enter(vectors) + self.kind(known.long())
        angles = rotary_angles(vectors.shape[1], self.head_width).to(vectors.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        if places is not None:
            hidden = hidden[places]
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]
