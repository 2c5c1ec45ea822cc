"""A causal network of tokens whose blocks mix by a state space instead of attention."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import TransformerBlock, checked_head_width, perceptron

OPEN = 1.278464542761
"""Where silu is 1, so that a gate lets everything through."""


def mixing_matrix(reads: Tensor, writes: Tensor, log_decay: Tensor, skip: Tensor) -> Tensor:
    """What a state space multiplies its values by, (B, H, T, T), 0 above the diagonal.

    ``M_ts = C_t . B_s prod_{s < r <= t} a_r`` for t >= s, plus ``D`` on the diagonal (Mamba-2,
    arXiv:2405.21060; as a mixer of its own MOHAWK, arXiv:2408.10189).

    Args:
        reads: C, (B, H, T, N).
        writes: B, (B, H, T, N).
        log_decay: log a, (B, H, T), at most 0.
        skip: D, (H,).
    """
    total = log_decay.cumsum(dim=2)
    passed = total[..., :, None] - total[..., None, :]
    future = torch.ones(passed.shape[-2:], dtype=torch.bool, device=passed.device).triu(1)
    # Before the exponential: above the diagonal it would grow without bound.
    kept = passed.masked_fill(future, -torch.inf).exp()
    own = torch.eye(passed.shape[-1], dtype=passed.dtype, device=passed.device)
    return kept * (reads @ writes.transpose(2, 3)) + skip[:, None, None] * own


def chunked_scan(
    reads: Tensor, writes: Tensor, values: Tensor, log_decay: Tensor, skip: Tensor, chunk: int
) -> Tensor:
    """``h_t = a_t h_(t-1) + B_t x_t``, ``y_t = C_t h_t + D x_t``: y, (B, H, T, P).

    Inside a chunk by the matrix, from chunk to chunk by the state: time and memory grow with T
    times ``chunk``, not with the square of T.

    Args:
        reads: C, (B, H, T, N).
        writes: B, (B, H, T, N).
        values: x, (B, H, T, P).
        log_decay: log a, (B, H, T), at most 0.
        skip: D, (H,).
        chunk: Positions of a chunk.
    """
    state = values.new_zeros(*values.shape[:2], writes.shape[3], values.shape[3])
    found = []
    for c, b, x, decay in zip(
        *(torch.split(each, chunk, dim=2) for each in (reads, writes, values, log_decay)),
        strict=True,
    ):
        total = decay.cumsum(dim=2)
        within = mixing_matrix(c, b, decay, skip) @ x
        found.append(within + (c * total.exp()[..., None]) @ state)
        whole = total[..., -1:]
        left = b * (whole - total).exp()[..., None]
        state = state * whole.exp()[..., None] + left.transpose(2, 3) @ x
    return torch.cat(found, dim=2)


class StateSpaceMixer(nn.Module):
    """Discrete Mamba-2: a state space of many heads, without a norm or an activation on its way.

    Reads, writes and values pass a short causal convolution; decays depend on the token; what is
    read is gated. It starts as a plain mixer: the convolution passes its own position alone and
    the gate is 1.

    Args:
        width: Channels of a token.
        heads: Heads, each with a state of (head width, head width).
        head_width: Channels of a head.
        taps: Positions that the convolution sees.
        chunk: Positions of a chunk of the scan.
    """

    def __init__(self, width: int, heads: int, head_width: int, taps: int, chunk: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.chunk = heads, chunk
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.taps = nn.Parameter(torch.zeros(3 * inner, 1, taps))
        self.decay = nn.Linear(width, heads)
        self.skip = nn.Parameter(torch.ones(heads))
        self.gate = nn.Linear(width, inner)
        self.project = nn.Linear(inner, width, bias=False)
        with torch.no_grad():
            self.taps[:, :, -1] = 1
            # From a memory of two tokens to one of more than fifty.
            self.decay.bias.copy_(torch.linspace(0, -4, heads))
            self.gate.weight.zero_()
            self.gate.bias.fill_(OPEN)

    def parts(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reads, writes and values, (B, H, T, head width) each, and log-decays, (B, H, T)."""
        joint = nn.functional.pad(self.qkv(tokens).transpose(1, 2), (self.taps.shape[2] - 1, 0))
        joint = nn.functional.conv1d(joint, self.taps, groups=len(self.taps)).transpose(1, 2)
        reads, writes, values = (
            torch.unflatten(part, 2, (self.heads, -1)).transpose(1, 2)
            for part in joint.chunk(3, dim=2)
        )
        decay = nn.functional.logsigmoid(-self.decay(tokens)).transpose(1, 2)
        return reads, writes, values, decay

    def matrix(self, tokens: Tensor) -> Tensor:
        """What it mixes tokens (B, T, width) by, (B, H, T, T), before the gate."""
        reads, writes, _, decay = self.parts(tokens)
        return mixing_matrix(reads, writes, decay, self.skip)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, width) mixed with those before them."""
        reads, writes, values, decay = self.parts(tokens)
        mixed = chunked_scan(reads, writes, values, decay, self.skip, self.chunk)
        gate = nn.functional.silu(self.gate(tokens))
        return self.project(mixed.transpose(1, 2).flatten(2) * gate)  # type: ignore[no-any-return]


class StateSpaceBlock(nn.Module):
    """A :class:`~kdlight.networks.text.token_transformer.TransformerBlock` with another mixer.

    Args:
        width: Channels of a token.
        heads: Heads.
        ratio: Hidden width of the perceptron over ``width``.
        head_width: Channels of a head.
        taps: Positions that the mixer's convolution sees.
        chunk: Positions of a chunk of the scan.
    """

    def __init__(
        self, width: int, heads: int, ratio: float, head_width: int, taps: int, chunk: int
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.mixer = StateSpaceMixer(width, heads, head_width, taps, chunk)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = perceptron(width, ratio)

    def forward(self, hidden: Tensor) -> Tensor:
        """Tokens (B, T, width) mixed with those before them."""
        hidden = hidden + self.mixer(self.attention_norm(hidden))
        return hidden + self.mlp(self.mlp_norm(hidden))  # type: ignore[no-any-return]


class StateSpaceModel(Recorded, nn.Module):
    """Tokens (B, L) to logits (B, L, V), each of which sees the tokens up to its own.

    A causal :class:`~kdlight.networks.text.token_transformer.TokenTransformer` of the same numbers
    with state spaces for attention; what is no mixer has the same name and shape in both.

    Args:
        vocabulary: Tokens V it predicts; one more, the mask, is read.
        width: Channels of a token, a multiple of ``2 * heads`` unless ``head_width`` is given.
        depth: Number of blocks.
        heads: Heads.
        ratio: Hidden width of the perceptrons over ``width``.
        head_width: Channels of a head, and of its state; 0 for ``width / heads``.
        taps: Positions that a mixer's convolution sees.
        chunk: Positions of a chunk of the scan; it changes no result but by rounding.

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
        head_width: NonNegativeInt = 0,
        taps: PositiveInt = 4,
        chunk: PositiveInt = 64,
    ) -> None:
        super().__init__()
        head_width = head_width or checked_head_width(width, heads)
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.blocks = nn.ModuleList(
            StateSpaceBlock(width, heads, ratio, head_width, taps, chunk) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of tokens (B, L), the mask being V."""
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]


@torch.no_grad()
def start_as_attention(mixer: StateSpaceMixer, block: TransformerBlock) -> None:
    """Reads from queries, writes from keys, values from values, what goes out from what went out.

    Rotary positions and decays have no counterpart: the ones are lost, the others stay as drawn.

    Args:
        mixer: Of as many heads of the same width.
        block: Is copied from.
    """
    mixer.qkv.weight.copy_(block.qkv.weight)
    mixer.project.weight.copy_(block.project.weight)
