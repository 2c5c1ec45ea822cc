"""A deterministic map from noise to a token that keeps a given law of tokens.

A token j is a point c_j, its code; the law is a mixture of points of mass p_j. The flow from
normal noise at time 0 to the points at time 1 along (1 - t) eps + t c has a closed form, no network
is trained for it (Liu et al., Distilled Decoding, arXiv:2412.17153, section 3.2).
"""

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.errors import InputError


class TokenCodes(Recorded, nn.Module):
    """A point for every token, of the size of the noise that flows to it.

    Args:
        vocabulary: Tokens V.
        dimension: Numbers of a code d. With one the map is exact and costs nothing.
        seed: Seed of random codes.
        vectors: Codes of one's own instead, such as a codec's codebook: V rows of d numbers, which
            are shifted and scaled to mean 0 and variance 1.

    Raises:
        InputError: The vectors have another shape, or two tokens have the same.
    """

    vectors: Tensor

    def __init__(
        self,
        vocabulary: int,
        dimension: int = 1,
        seed: int = 0,
        vectors: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        if vectors is None:
            source = torch.Generator().manual_seed(seed)
            found = torch.randn(vocabulary, dimension, generator=source, dtype=torch.float64)
        else:
            found = torch.tensor(vectors, dtype=torch.float64)
        if found.shape != (vocabulary, dimension):
            raise InputError(
                f"vectors: expected {vocabulary} codes of {dimension} numbers, found shape "
                f"{tuple(found.shape)}."
            )
        if len(torch.unique(found, dim=0)) < vocabulary:
            raise InputError("vectors: expected a code a token, found two tokens with the same.")
        if vocabulary > 1:
            found = (found - found.mean()) / found.std(correction=0)
        self.vocabulary = vocabulary
        self.dimension = dimension
        self.register_buffer("vectors", found)


def flow_weights(x: Tensor, time: float, log_probs: Tensor, codes: Tensor) -> Tensor:
    """p(token | x_t = x), (N, V): log p_j - |x - t c_j|^2 / (2 (1 - t)^2), normalised.

    Args:
        x: Points on their way, (N, d) float64.
        time: t in [0, 1).
        log_probs: Log-probabilities of the tokens, (N, V).
        codes: (V, d).
    """
    distance = (x[:, None] - time * codes).square().sum(dim=2)
    return (log_probs.double() - distance / (2 * (1 - time) ** 2)).softmax(dim=1)


def flowed(noise: Tensor, log_probs: Tensor, codes: Tensor, steps: int) -> Tensor:
    """The token that a point of noise flows to, by Heun's method, (N,) int64.

    The law of the tokens is ``log_probs`` to the solver's error; Euler's halves with the steps and
    needs hundreds.

    Args:
        noise: Standard normal, (N, d) float64.
        log_probs: Log-probabilities of the tokens, (N, V); normalised.
        codes: (V, d) float64.
        steps: Solver steps, 20 or more for an error below a hundredth.
    """
    x, step = noise.double(), 1 / steps
    for index in range(steps - 1):
        time = index * step
        slope = _velocity(x, time, log_probs, codes)
        ahead = _velocity(x + step * slope, time + step, log_probs, codes)
        x = x + step * (slope + ahead) / 2
    # The last step ends in a mean of codes, whichever its length: the heaviest is meant.
    return flow_weights(x, 1 - step, log_probs, codes).argmax(dim=1)


def _velocity(x: Tensor, time: float, log_probs: Tensor, codes: Tensor) -> Tensor:
    """(sum_j w_j c_j - x) / (1 - t)."""
    return (flow_weights(x, time, log_probs, codes) @ codes - x) / (1 - time)


def ranked(noise: Tensor, log_probs: Tensor, codes: Tensor) -> Tensor:
    """Where the flow ends in one dimension, exactly: it keeps order, so it is the quantile map.

    Args:
        noise: Standard normal, (N,) float64.
        log_probs: Log-probabilities of the tokens, (N, V).
        codes: (V,) float64.

    Returns:
        Tokens, (N,) int64.
    """
    order = codes.argsort()
    cumulative = log_probs.double().softmax(dim=1)[:, order].cumsum(dim=1)
    total = cumulative[:, -1:]
    quantile = torch.special.ndtr(noise.double())[:, None] * total
    place = torch.searchsorted(cumulative, quantile, right=True)
    last = (cumulative < total).sum(dim=1, keepdim=True)
    return order[torch.minimum(place, last)[:, 0]]


@torch.no_grad()
def flow_to_sequences(
    model: NextTokenModel, noise: Tensor, codes: TokenCodes, steps: int
) -> Tensor:
    """Sequences as a function of noise, (B, L) int64, whose law is the model's.

    Token t is where eps_t flows under p(. | tokens before it); one call of the model a token.

    Args:
        model: The autoregressive model.
        noise: Standard normal, (B, L, d) float64.
        codes: The tokens' codes.
        steps: Solver steps; not used in one dimension.
    """
    tokens = noise.new_zeros(noise.shape[:2], dtype=torch.int64)
    for place in range(noise.shape[1]):
        log_probs = model.following(tokens[:, :place]).double().log_softmax(dim=1)
        if codes.dimension == 1:
            tokens[:, place] = ranked(noise[:, place, 0], log_probs, codes.vectors[:, 0])
        else:
            tokens[:, place] = flowed(noise[:, place], log_probs, codes.vectors, steps)
    return tokens
