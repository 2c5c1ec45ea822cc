"""A frozen language model that reads a few vectors in the place of demonstrations."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TokenTransformer,
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


class Condensing(Recorded, nn.Module):
    """Demonstrations become vectors, which a frozen model reads before the rest of a row (MEND).

    A small network reads the first ``context`` tokens and, behind them, ``vectors`` learned
    queries; what it makes of these stands for the tokens. Of the tokens it says nothing (logits
    0); they must not be scored (arXiv:2403.06914).

    Args:
        network: The model that is served; never trained.
        context: Tokens of the demonstrations.
        vectors: How many vectors stand for them.
        width: Channels of a token in the small network, a multiple of ``2 * heads``.
        depth: Its blocks.
        heads: Its attention heads.
        ratio: Hidden width of its perceptrons over ``width``.

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``.
    """

    def __init__(
        self,
        network: TokenTransformer,
        context: PositiveInt,
        vectors: PositiveInt,
        width: PositiveInt = 64,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.context, self.vectors = context, vectors
        self.vocabulary = network.head.out_features
        self.head_width = checked_head_width(width, heads)
        self.embedding = nn.Embedding(self.vocabulary + 1, width)
        self.queries = nn.Parameter(torch.randn(vectors, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, ratio, 0.0, causal=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, network.embedding.embedding_dim)

    def train(self, mode: bool = True) -> "Condensing":
        super().train(mode)
        self.network.eval()
        return self

    def condensed(self, tokens: Tensor) -> Tensor:
        """The vectors that stand for tokens (B, context), (B, vectors, width of the model)."""
        queries = self.queries.expand(len(tokens), -1, -1)
        hidden = torch.cat([self.embedding(tokens), queries], dim=1)
        angles = rotary_angles(hidden.shape[1], self.head_width).to(hidden.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        return self.project(self.norm(hidden[:, -self.vectors :]))  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of rows (B, L) that begin with the token V."""
        rows, length = tokens.shape
        silent = self.queries.new_zeros(rows, min(length, self.context), self.vocabulary)
        if length <= self.context:
            return silent
        first, shown, rest = tokens.tensor_split([1, self.context + 1], dim=1)
        embedded = self.network.embedding
        read = torch.cat([embedded(first), self.condensed(shown), embedded(rest)], dim=1)
        return torch.cat([silent, self.network.read(read)[:, self.vectors :]], dim=1)
