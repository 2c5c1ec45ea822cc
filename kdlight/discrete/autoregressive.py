"""Models that write from left to right."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.categorical import draw
from kdlight.discrete.denoiser import check_logits, logits_at
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.generator import MaskedAlgorithm, TokenGenerator
from kdlight.discrete.masking import is_masked
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.samplers import TokenSample
from kdlight.errors import InputError


@runtime_checkable
class NextTokenModel(Protocol):
    """A model of every token given those before it.

    Attributes:
        vocabulary: Tokens V.
        length: Tokens of a sequence L.
    """

    vocabulary: int
    length: int

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits of token t given those before it, (B, T, V), of tokens (B, T)."""
        ...

    def following(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows tokens (B, T), T being 0 or more: (B, V)."""
        ...


class AutoregressiveModel(Recorded, nn.Module):
    """A causal network behind a token that begins every sequence, so that all tokens are predicted.

    Logits and tokens have the same places: ``forward(tokens)[:, t]`` speaks of ``tokens[:, t]``.
    Padding on the right needs no attention mask: no token before it sees it.

    Args:
        network: Takes tokens (B, T), gives logits (B, T, V) of which the t-th sees t + 1 tokens.
        vocabulary: Tokens V.
        length: Tokens of a sequence L, as it samples.
        beginning: The token that begins a sequence; None for V, which a network of masked tokens
            reads as the mask.

    Raises:
        InputError: ``vocabulary`` or ``length`` is below 1, or the network has other tokens.
    """

    def __init__(
        self, network: nn.Module, vocabulary: int, length: int, beginning: int | None = None
    ) -> None:
        super().__init__()
        if min(vocabulary, length) < 1:
            raise InputError(
                f"AutoregressiveModel: expected vocabulary and length above 0, found {vocabulary} "
                f"and {length}."
            )
        check_logits(network, vocabulary)
        self.network = network
        self.vocabulary = vocabulary
        self.length = length
        self.beginning = vocabulary if beginning is None else beginning

    def begun(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) behind the one that begins every sequence, (B, T + 1)."""
        return nn.functional.pad(tokens, (1, 0), value=self.beginning)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of token t given those before it, (B, T, V), of tokens (B, T)."""
        return self.network(self.begun(tokens[:, :-1]))  # type: ignore[no-any-return]

    def following(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows tokens (B, T), (B, V)."""
        begun = self.begun(tokens)
        last = torch.zeros_like(begun, dtype=torch.bool)
        last[:, -1] = True
        return logits_at(self.network, last, begun)


class OracleAutoregressive(Recorded, nn.Module):
    """The exact next-token law of a language.

    Args:
        language: The language.
    """

    def __init__(self, language: HMMLanguage) -> None:
        super().__init__()
        self.language = language
        self.vocabulary = language.vocabulary
        self.length = language.length

    def forward(self, tokens: Tensor) -> Tensor:
        """Log p(x_t | tokens before it), (B, T, V) float64, of tokens (B, T)."""
        return self.language.predictions(tokens)[:, :-1].log()

    def following(self, tokens: Tensor) -> Tensor:
        """Log p of the token that follows tokens (B, T), (B, V) float64."""
        return self.language.predictions(tokens)[:, -1].log()


class Sharper(nn.Module):
    """A model of next tokens at another temperature, with its likeliest tokens alone.

    Args:
        model: The model.
        temperature: Its logits are divided by it.
        top_k: How many tokens are left; 0 for all.
    """

    def __init__(self, model: AutoregressiveModel, temperature: float, top_k: int) -> None:
        super().__init__()
        self.model, self.temperature, self.top_k = model, temperature, top_k
        self.vocabulary, self.length = model.vocabulary, model.length

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of token t given those before it, (B, T, V), of tokens (B, T)."""
        return self.sharpened(self.model(tokens))

    def following(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows tokens (B, T), (B, V)."""
        return self.sharpened(self.model.following(tokens))

    def sharpened(self, logits: Tensor) -> Tensor:
        """Logits (..., V) over the temperature; those that are left out are -inf."""
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        return logits


@torch.no_grad()
def left_to_right(model: NextTokenModel, start: Tensor, draws: RowDraws) -> TokenSample:
    """Draw masked tokens one by one, each given all before it.

    A visible token is kept and costs no call; what stands behind a mask is not seen by it, so
    only a prompt at the beginning conditions exactly.

    Args:
        model: The model.
        start: (B, L) int64 with masks.
        draws: The rows' random numbers.
    """
    tokens, masked = start.clone(), is_masked(start, model.vocabulary)
    uniform = draws.uniform(start.shape[1])
    for place in range(start.shape[1]):
        rows = masked[:, place]
        if bool(rows.any()):
            logits = model.following(tokens[rows, :place])
            tokens[rows, place] = draw(logits, uniform[rows, place])
    revealed_at = masked.cumsum(dim=1) * masked
    return TokenSample(tokens, masked.sum(dim=1), revealed_at)


class AutoregressiveGenerator(TokenGenerator):
    """Writes from left to right, one call a token.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, NextTokenModel):
            raise InputError(
                f"model: expected a model of next tokens, found {type(model).__name__}."
            )
        super().__init__(model, "autoregressive")

    def forward(self, start: Tensor, seed: int, first: int = 0, steps: int = 0) -> TokenSample:
        """Fill the masks of ``start`` (B, L); ``steps`` are those of the tokens."""
        assert isinstance(self.denoiser, NextTokenModel)
        return left_to_right(self.denoiser, start, self.draws(start, seed, first))

    def walks(
        self, algorithms: list[MaskedAlgorithm], steps: list[int]
    ) -> list[tuple[TokenGenerator, int]]:
        return [(self, self.length)]
