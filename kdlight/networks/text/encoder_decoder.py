"""A network that reads the source of a row in both directions and writes the rest of it."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    angles_at,
    checked_head_width,
    rotated,
)


class DecoderBlock(nn.Module):
    """A causal block that looks at the source between its two halves.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        ratio: Hidden width of the perceptron over ``width``.
    """

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.own = TransformerBlock(width, heads, ratio, 0.0, causal=True)
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)

    def forward(
        self, hidden: Tensor, angles: Tensor, source: Tensor, source_angles: Tensor, sees: Tensor
    ) -> Tensor:
        """Tokens (B, T, width) mixed with those before them and with the source.

        Args:
            hidden: The tokens.
            angles: Of their places, (T, head width / 2).
            source: What was read, (B, S, width).
            source_angles: Of its places, (S, head width / 2).
            sees: Which of it is no padding, (B, 1, 1, S) bool.
        """
        hidden = self.own.attended(hidden, angles)
        queries, keys, values = (
            torch.unflatten(part, 2, (self.own.heads, -1)).transpose(1, 2)
            for part in (
                self.queries(self.norm(hidden)),
                *self.keys_values(source).chunk(2, dim=2),
            )
        )
        found = nn.functional.scaled_dot_product_attention(
            rotated(queries, angles), rotated(keys, source_angles), values, attn_mask=sees
        )
        return self.own.fed(hidden + self.project(found.transpose(1, 2).flatten(2)))


class EncoderDecoder(Recorded, nn.Module):
    """Rows of a source and what follows it, (B, L), to logits (B, L, V).

    Behind :class:`~kdlight.discrete.autoregressive.AutoregressiveModel` a row has the places that a
    decoder alone gives it, so that the teacher's logits and its own speak of the same tokens. Of
    the source it says nothing (logits 0); those tokens must not be scored.

    Args:
        vocabulary: Tokens V it predicts; one more, which begins both parts, is read.
        source: Tokens of the source, padding among them.
        width: Channels of a token, a multiple of ``2 * heads``.
        encoder_depth: Blocks that read the source; the paper has two thirds of all.
        depth: Blocks that write.
        heads: Attention heads.
        ratio: Hidden width of the perceptrons over ``width``.
        padding: A token of the source that is not looked at; None for none.

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        source: PositiveInt,
        width: PositiveInt = 128,
        encoder_depth: LayerCount = 2,
        depth: LayerCount = 1,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
        padding: NonNegativeInt | None = None,
    ) -> None:
        super().__init__()
        self.head_width = checked_head_width(width, heads)
        self.vocabulary, self.source, self.padding = vocabulary, source, padding
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.encoder = nn.ModuleList(
            TransformerBlock(width, heads, ratio, 0.0, causal=False) for _ in range(encoder_depth)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderBlock(width, heads, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of rows (B, L) that begin with the token V."""
        rows, length = tokens.shape
        silent = self.head.bias.new_zeros(rows, min(length, self.source), self.vocabulary)
        if length <= self.source:
            return silent
        read, written = tokens[:, : self.source + 1], tokens[:, self.source :].clone()
        written[:, 0] = self.vocabulary
        places = torch.arange(length, device=tokens.device)
        angles = angles_at(places, self.head_width)
        around, behind = angles[: self.source + 1], angles[self.source :]
        real = torch.ones_like(read) if self.padding is None else torch.ne(read, self.padding)
        sees = real.bool()[:, None, None]
        source = self.embedding(read)
        for block in self.encoder:
            source = block(source, around, sees=sees)
        source = self.encoder_norm(source)
        hidden = self.embedding(written)
        for block in self.decoder:
            hidden = block(hidden, behind, source, around, sees)
        return torch.cat([silent, self.head(self.norm(hidden))], dim=1)
