"""A small transformer of tokens with rotary positions: both directions, or causal."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.networks.text.key_values import KeyValues


def rotary_angles(length: int, width: int, base: float = 10_000.0) -> Tensor:
    """Angles of rotary positions (Su et al., arXiv:2104.09864), (length, width / 2) float32."""
    return angles_at(torch.arange(length), width, base)


def angles_at(places: Tensor, width: int, base: float = 10_000.0) -> Tensor:
    """The angles of some places (n,), (n, width / 2) float32."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    return places.float()[:, None] * frequency.to(places.device)


def rotated(values: Tensor, angles: Tensor) -> Tensor:
    """``values`` (..., L, width) turned pair by pair by ``angles`` (L, width / 2)."""
    first, second = values.chunk(2, dim=-1)
    cosine, sine = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def checked_head_width(width: int, heads: int) -> int:
    """Channels of a head.

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``, as rotary positions need.
    """
    if width % (2 * heads):
        raise InputError(
            f"width: expected a multiple of twice the heads ({2 * heads}), found {width}."
        )
    return width // heads


def perceptron(width: int, ratio: float) -> nn.Sequential:
    """What a block does with each token alone.

    Args:
        width: Channels of a token.
        ratio: Hidden width over ``width``.
    """
    return nn.Sequential(
        nn.Linear(width, int(ratio * width)),
        nn.GELU(approximate="tanh"),
        nn.Linear(int(ratio * width), width),
    )


class TransformerBlock(nn.Module):
    """Attention with rotary positions and a perceptron, each behind its norm.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        ratio: Hidden width of the perceptron over ``width``.
        dropout: Dropout probability of both branches.
        causal: Whether a position sees only itself and those before it.
        head_width: Channels of a head; 0 for ``width / heads``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        ratio: float,
        dropout: float,
        causal: bool,
        head_width: int = 0,
    ) -> None:
        super().__init__()
        inner = heads * head_width or width
        self.heads = heads
        self.causal = causal
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.project = nn.Linear(inner, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp: nn.Module = perceptron(width, ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        angles: Tensor,
        memory: KeyValues | None = None,
        sees: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, T, width) mixed with each other.

        Args:
            hidden: The tokens.
            angles: Of their places, (T, head width / 2).
            memory: What was read before, to which these tokens are added.
            sees: Which of all tokens, those in the memory first, each of these sees, (T, N) bool;
                None for all up to itself of a causal block, else all.
        """
        return self.fed(self.attended(hidden, angles, memory, sees))

    def attended(
        self,
        hidden: Tensor,
        angles: Tensor,
        memory: KeyValues | None = None,
        sees: Tensor | None = None,
    ) -> Tensor:
        """The block's first half: tokens with what their attention found added to them."""
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.attention_norm(hidden)).chunk(3, dim=2)
        )
        queries, keys = rotated(queries, angles), rotated(keys, angles)
        if memory is not None:
            keys, values = memory.extend(keys, values)
        mixed = nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=sees, is_causal=self.causal and sees is None
        )
        found: Tensor = self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))
        return hidden + found

    def fed(self, mixed: Tensor) -> Tensor:
        """The block's second half: each token (B, T, width) alone through the perceptron."""
        return mixed + self.dropout(self.mlp(self.mlp_norm(mixed)))  # type: ignore[no-any-return]

    def mixing_matrix(self, tokens: Tensor, angles: Tensor) -> Tensor:
        """What attention multiplies its values by, (B, H, T, T), rows that sum to 1.

        Args:
            tokens: Behind the first norm, (B, T, width).
            angles: Of their places, (T, head width / 2).
        """
        queries, keys = (
            rotated(part.unflatten(2, (self.heads, -1)).transpose(1, 2), angles)
            for part in self.qkv(tokens).chunk(3, dim=2)[:2]
        )
        scores = queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5
        if self.causal:
            future = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        weights: Tensor = scores.softmax(dim=3)
        return weights


class TokenTransformer(Recorded, nn.Module):
    """Tokens (B, L) to logits (B, L, V); its head starts at zero, at the uniform law.

    Rotary positions are no matter of taste here: with learned absolute positions a masked model
    stays for long at the entropy of single tokens, unable to find its neighbours.

    Args:
        vocabulary: Tokens V it predicts; one more, the mask, is read.
        width: Channels of a token, a multiple of ``2 * heads`` unless ``head_width`` is given.
        depth: Number of blocks.
        heads: Attention heads.
        causal: Whether a position sees only itself and those before it.
        ratio: Hidden width of the perceptrons over ``width``.
        dropout: Dropout probability inside each block.
        components: How many components of a mixture it can be asked for; 1 for none. Each has a
            vector a position: one vector for all positions is soon ignored.
        length: Tokens of a sequence, which components need; 0 takes any.
        head_width: Channels of a head, an even number, such as those that pruning kept; 0 for
            ``width / heads``.

    Raises:
        InputError: ``width`` is no multiple of ``2 * heads``, ``head_width`` is odd, or components
            have no length.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        width: PositiveInt = 128,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
        causal: bool = False,
        ratio: PositiveFloat = 4.0,
        dropout: Probability = 0.0,
        components: PositiveInt = 1,
        length: NonNegativeInt = 0,
        head_width: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if head_width % 2:
            raise InputError(f"head_width: expected an even number, found {head_width}.")
        self.head_width = head_width or checked_head_width(width, heads)
        self.components = components
        self.embedding = nn.Embedding(vocabulary + 1, width)
        if components > 1 and length < 1:
            raise InputError(f"length: expected that of the sequences, found {length}.")
        self.component_embedding = (
            nn.Parameter(0.5 * torch.randn(components, length, width)) if components > 1 else None
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, ratio, dropout, causal, head_width) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    takes_places: ClassVar[bool] = True
    """Whether it can be asked for the logits of some positions alone."""

    def forward(
        self, tokens: Tensor, component: Tensor | None = None, places: Tensor | None = None
    ) -> Tensor:
        """Logits, (B, L, V), or (N, V) of ``places``.

        Args:
            tokens: (B, L) int64, the mask being V.
            component: Component of the mixture, (B,) int64; None for the first.
            places: Positions that are asked for, (B, L) bool; None for all.
        """
        hidden = self.embedding(tokens)
        if self.component_embedding is not None:
            if component is None:
                component = tokens.new_zeros(len(tokens))
            hidden = hidden + self.component_embedding[component]
        return self.read(hidden, places)

    def read(self, hidden: Tensor, places: Tensor | None = None) -> Tensor:
        """Logits, (B, L, V), or (N, V) of ``places`` (B, L), of vectors of tokens (B, L, width)."""
        angles = self.angles(hidden)
        for block in self.blocks:
            hidden = block(hidden, angles)
        if places is not None:
            hidden = hidden[places]
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]

    def angles(self, tokens: Tensor) -> Tensor:
        """Of the places of tokens (B, L), (L, head width / 2)."""
        return rotary_angles(tokens.shape[1], self.head_width).to(tokens.device)

    def memory(self) -> list[KeyValues]:
        """What it remembers before it has read anything."""
        return [KeyValues() for _ in self.blocks]

    def read_on(
        self, tokens: Tensor, places: Tensor, sees: Tensor, memory: list[KeyValues]
    ) -> Tensor:
        """Logits (1, n, V) of the tokens that follow each of ``tokens`` (1, n).

        Args:
            tokens: They are added to the memory.
            places: Where they stand in the sequence, (n,) int64.
            sees: Which of all tokens, those in the memory first, each of them sees, (n, N) bool.
            memory: Of :meth:`memory`.
        """
        hidden, angles = self.embedding(tokens), angles_at(places, self.head_width)
        for block, known in zip(self.blocks, memory, strict=True):
            hidden = block(hidden, angles, known, sees)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]

    @staticmethod
    def keep(memory: list[KeyValues], places: Tensor) -> None:
        """Forget all tokens read but those at ``places`` (n,)."""
        for known in memory:
            known.keep(places)
