"""A causal transformer whose perceptrons are experts that one router chooses ahead (Read-ME)."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


class ExpertPerceptron(nn.Module):
    """Hidden units for all tokens, and for each token those of its expert.

    It begins at zero: its weights are cut out of another network.

    Args:
        width: Channels of a token.
        units: Hidden units of the perceptron it was cut out of.
        shared: Units for all tokens.
        own: Units of each expert.
    """

    masks: Tensor
    """Which of the units each expert has, the shared ones among them, (E, units) bool."""

    def __init__(self, width: int, units: int, shared: int, own: list[int]) -> None:
        super().__init__()
        counts = [shared, *own]
        self.up = nn.ParameterList(torch.zeros(count, width) for count in counts)
        self.up_bias = nn.ParameterList(torch.zeros(count) for count in counts)
        self.down = nn.ParameterList(torch.zeros(width, count) for count in counts)
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("masks", torch.zeros(len(own), units, dtype=torch.bool))

    def forward(self, tokens: Tensor, route: Tensor) -> Tensor:
        """Tokens (B, T, width), each through its expert ``route`` (B, T) int64."""
        found = self._part(0, tokens) + self.bias
        for expert in range(len(self.masks)):
            rows = torch.eq(route, expert)
            found = found.index_put((rows,), self._part(expert + 1, tokens[rows]), accumulate=True)
        return found

    def _part(self, index: int, tokens: Tensor) -> Tensor:
        hidden = nn.functional.linear(tokens, self.up[index], self.up_bias[index])
        hidden = nn.functional.gelu(hidden, approximate="tanh")
        return nn.functional.linear(hidden, self.down[index])


class ExpertBlock(TransformerBlock):
    """A causal block whose perceptron is an :class:`ExpertPerceptron`.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        head_width: Channels of a head.
        units: Hidden units of the perceptron that experts were cut out of.
        shared: Units for all tokens.
        own: Units of each expert.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, units: int, shared: int, own: list[int]
    ) -> None:
        super().__init__(width, heads, 1.0, 0.0, True, head_width)
        self.mlp = ExpertPerceptron(width, units, shared, own)

    def routed(self, hidden: Tensor, angles: Tensor, route: Tensor) -> Tensor:
        """Tokens (B, T, width) mixed with those before them, then each through its expert."""
        mixed = self.attended(hidden, angles)
        return mixed + self.mlp(self.mlp_norm(mixed), route)  # type: ignore[no-any-return]


class Router(nn.Module):
    """Says of tokens alone, not of what a network makes of them, which expert each has.

    So the experts of all layers are known before the first layer runs.

    Args:
        vocabulary: Tokens V; one more is read.
        experts: Experts E.
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads.
    """

    def __init__(self, vocabulary: int, experts: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.head_width = checked_head_width(width, heads)
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, 2.0, 0.0, causal=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, experts)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the experts of each token, (B, L, E), which sees those up to itself."""
        hidden = self.embedding(tokens)
        angles = rotary_angles(tokens.shape[1], self.head_width).to(tokens.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]


class ExpertTransformer(Recorded, nn.Module):
    """Tokens (B, L) to logits (B, L, V), one expert a token for all layers.

    What is no perceptron has the names and shapes of a causal
    :class:`~kdlight.networks.text.token_transformer.TokenTransformer`, which
    :func:`~kdlight.surgery.experts.cut_experts` makes it of.

    Args:
        vocabulary: Tokens V it predicts; one more, the mask, is read.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads.
        head_width: Channels of a head.
        units: Hidden units of each perceptron that experts were cut out of.
        shared: Of every block, the units for all tokens.
        own: Of every block, the units of each expert.
        router_width: Channels of a token in the router, a multiple of ``2 * router_heads``.
        router_depth: Blocks of the router.
        router_heads: Attention heads of the router.

    Raises:
        InputError: ``shared`` or ``own`` are not as many as the blocks.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        width: PositiveInt,
        depth: LayerCount,
        heads: PositiveInt,
        head_width: PositiveInt,
        units: PositiveInt,
        shared: list[NonNegativeInt],
        own: list[list[NonNegativeInt]],
        router_width: PositiveInt = 32,
        router_depth: LayerCount = 1,
        router_heads: PositiveInt = 2,
    ) -> None:
        super().__init__()
        experts = {len(each) for each in own}
        if not len(shared) == len(own) == depth or len(experts) != 1 or 0 in experts:
            raise InputError(
                f"shared, own: expected the units of each of {depth} blocks and of the same "
                f"experts, found {shared} and {own}."
            )
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.blocks = nn.ModuleList(
            ExpertBlock(width, heads, head_width, units, shared[block], own[block])
            for block in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        self.head_width = head_width
        self.router = Router(vocabulary, len(own[0]), router_width, router_depth, router_heads)

    def perceptrons(self) -> list[ExpertPerceptron]:
        """The experts of every block."""
        found = [block.get_submodule("mlp") for block in self.blocks]
        return [each for each in found if isinstance(each, ExpertPerceptron)]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (B, L, V), of tokens (B, L), the mask being V."""
        return self.routed(tokens, self.router(tokens).argmax(dim=2))

    def routed(self, tokens: Tensor, route: Tensor) -> Tensor:
        """The same where each token has the expert ``route`` (B, L) int64."""
        hidden = self.embedding(tokens)
        angles = rotary_angles(tokens.shape[1], self.head_width).to(tokens.device)
        for block in self.blocks:
            assert isinstance(block, ExpertBlock)
            hidden = block.routed(hidden, angles, route)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]
