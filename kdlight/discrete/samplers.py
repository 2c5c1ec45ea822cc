"""From masks to tokens: free functions of a denoiser, a start and the rows' own random numbers.

A start is tokens (B, L) with masks; what is visible in it (a prompt, the frame of an infill) stays.
Draws are exact (float64, :mod:`kdlight.discrete.categorical`). A row asks for a call only when one
of its tokens is to be revealed, which is legal for a network that is not told the time; the calls
are counted row by row, not assumed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlight.discrete.categorical import draw
from kdlight.discrete.denoiser import TokenDenoiser, asked_at
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.masking import is_masked

Choice = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TokenSample:
    """What a sampler returns.

    Attributes:
        tokens: (B, L) int64 without masks.
        calls: Network calls that each row took part in, (B,) int64.
        revealed_at: Call in which each position was revealed, from 1; 0 where it was visible,
            (B, L) int64.
    """

    tokens: Tensor
    calls: Tensor
    revealed_at: Tensor


def ancestral(denoiser: TokenDenoiser, start: Tensor, draws: RowDraws, steps: int) -> TokenSample:
    """The reverse process on a grid (Sahoo et al., arXiv:2406.07524, equation 6).

    In the step from t to s every masked token is revealed with probability (t - s) / t, all of
    them from one call: its law is exact for one token a step only; the divergence falls as
    ``steps^-2``. Of ``steps`` steps ``N (1 - (1 - 1/N)^L)`` need a call on average
    (:func:`expected_calls`). The last step reveals what is left.

    Args:
        denoiser: The model.
        start: (B, L) with masks.
        draws: The rows' random numbers.
        steps: Steps N of a grid that is even in alpha.
    """

    def choices() -> Iterator[Tensor]:
        for left in range(steps, 0, -1):
            yield draws.uniform(start.shape[1]) * left < 1

    walk = Walk(denoiser, start, draws)
    for revealed in choices():
        walk.reveal(revealed & walk.masked())
    return walk.sample()


def first_hitting(
    denoiser: TokenDenoiser, start: Tensor, draws: RowDraws, together: int = 1
) -> TokenSample:
    """One token a call in random order: exact (Zheng et al., arXiv:2409.02908, section 4).

    The times at which tokens are revealed are order statistics of L uniform numbers. A network
    that is not told the time needs only their order, and one token a call leaves nothing to the
    independence of tokens within a call: with exact conditionals the samples have exactly the
    language's law, in L calls and L draws.

    Args:
        denoiser: The model.
        start: (B, L) with masks.
        draws: The rows' random numbers.
        together: Tokens a call; above 1 the law is no longer exact.
    """
    walk = Walk(denoiser, start, draws)
    masked = walk.masked()
    order = draws.uniform(start.shape[1]).masked_fill(~masked, 2.0).argsort(dim=1).argsort(dim=1)
    for first in range(0, int(masked.sum(dim=1).max()), together):
        walk.reveal(masked & (order >= first) & (order < first + together))
    return walk.sample()


def confidence(denoiser: TokenDenoiser, start: Tensor, draws: RowDraws, steps: int) -> TokenSample:
    """In every call draw all masked tokens, keep the likeliest (MaskGIT, arXiv:2202.04200).

    As many a call as leaves the rest even over the calls that are left; ranked within the row
    (ranked over the whole batch, as some programs do, a row depends on its neighbours). Sharper
    than the model: look at the entropy beside the likelihood.

    Args:
        denoiser: The model.
        start: (B, L) with masks.
        draws: The rows' random numbers.
        steps: Calls.
    """
    walk = Walk(denoiser, start, draws)
    for left in range(steps, 0, -1):
        masked = walk.masked()
        walk.reveal_likeliest(torch.ceil(masked.sum(dim=1) / left).long())
    return walk.sample()


def expected_calls(length: int, steps: int) -> float:
    """Mean calls of :func:`ancestral` for ``length`` masks: steps in which a token is revealed."""
    return -steps * math.expm1(length * math.log1p(-1 / steps)) if steps > 1 else 1.0


class Walk:
    """Tokens on their way, with the count of calls.

    Args:
        denoiser: The model.
        start: (B, L) with masks.
        draws: The rows' random numbers.
    """

    def __init__(self, denoiser: TokenDenoiser, start: Tensor, draws: RowDraws) -> None:
        self._denoiser = denoiser
        self._draws = draws
        self._tokens = start.clone()
        self._calls = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self._revealed_at = torch.zeros_like(start)

    def masked(self) -> Tensor:
        """Which positions are still masked, (B, L) bool."""
        return is_masked(self._tokens, self._denoiser.vocabulary)

    @torch.no_grad()
    def reveal(self, chosen: Tensor) -> None:
        """Draw the positions ``chosen`` (B, L), from one call for the rows that have any."""
        # Drawn for all rows: which numbers a row gets must not depend on the others.
        uniform = self._draws.uniform(chosen.shape[1])
        latent = self._draws.uniform(1)[:, 0]
        rows = chosen.any(dim=1)
        if bool(rows.any()):
            logits = asked_at(self._denoiser, self._tokens[rows], chosen[rows], latent[rows])
            self._tokens[chosen] = draw(logits, uniform[chosen])
            self._count(rows, chosen)

    @torch.no_grad()
    def reveal_likeliest(self, count: Tensor) -> None:
        """Draw all masked tokens of a row and keep the ``count`` (B,) likeliest draws."""
        uniform = self._draws.uniform(self._tokens.shape[1])
        latent = self._draws.uniform(1)[:, 0]
        rows = count > 0
        if bool(rows.any()):
            asked = self.masked() & rows[:, None]
            logits = asked_at(self._denoiser, self._tokens[rows], asked[rows], latent[rows])
            log_probs = logits.double().log_softmax(dim=1)
            drawn = draw(log_probs, uniform[asked])
            likely = torch.full_like(uniform, -torch.inf)
            likely[asked] = log_probs.gather(1, drawn[:, None])[:, 0]
            rank = likely.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            kept = asked & (rank < count[:, None])
            self._tokens[kept] = drawn[kept[asked]]
            self._count(rows, kept)

    def _count(self, rows: Tensor, revealed: Tensor, calls: int = 1) -> None:
        """Note ``calls`` of ``rows`` (B,) that revealed some positions (B, L)."""
        self._calls += calls * rows
        self._revealed_at = torch.where(revealed, self._calls[:, None], self._revealed_at)

    def sample(self) -> TokenSample:
        """What has been revealed, and how."""
        return TokenSample(self._tokens, self._calls, self._revealed_at)
