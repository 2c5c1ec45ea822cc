"""Drafts, and which of their tokens a target keeps so that its law stays exact."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kdlight.discrete.categorical import draw
from kdlight.speculative.verification import accepted, residual


class Verdict(NamedTuple):
    """What a target keeps.

    Attributes:
        path: Numbers of the kept tokens of the draft, each behind the one before.
        behind: The token that the target itself puts behind them.
        tried: Levels of the draft that were tried, the one that failed included.
    """

    path: list[int]
    behind: int
    tried: int


class Draft(Protocol):
    """Proposed continuations of a row."""

    @property
    def tokens(self) -> list[int]:
        """The tokens."""
        ...

    @property
    def parents(self) -> list[int]:
        """Which of them stands before each, -1 for the row itself; a parent before its children."""
        ...

    def judge(self, log_p: Tensor, draws: Tensor, accept: Tensor) -> Verdict:
        """Which tokens are kept.

        Args:
            log_p: Of the target behind the row and behind each token, (n + 1, V) float64.
            draws: Uniform numbers, one a place behind the row, for draws of the target.
            accept: The same, for keeping.
        """
        ...


@dataclass(frozen=True)
class Tree:
    """Continuations that were not drawn: of a table, or of the text itself.

    At every node the target draws one token of its own; where a child holds it, the walk goes on
    there. So the row is the one that the target writes without a draft from the same numbers,
    whatever the tree. A child is kept with the probability that the target gives it, as by
    accepting one child after the other with what is left of the law.
    """

    tokens: list[int]
    parents: list[int]

    def judge(self, log_p: Tensor, draws: Tensor, accept: Tensor) -> Verdict:
        """See :class:`Draft`; ``accept`` is not used."""
        path: list[int] = []
        at = -1
        while True:
            token = int(draw(log_p[at + 1], draws[len(path)]))
            children = [n for n, parent in enumerate(self.parents) if parent == at]
            following = next((n for n in children if self.tokens[n] == token), None)
            if following is None:
                return Verdict(path, token, len(path) + bool(children))
            path.append(following)
            at = following


@dataclass(frozen=True)
class Chain:
    """One continuation that a draft model drew (Leviathan et al., arXiv:2211.17192).

    Attributes:
        tokens: The tokens.
        log_q: The laws they were drawn from, (n, V) float64, normalised.
    """

    tokens: list[int]
    log_q: Tensor

    @property
    def parents(self) -> list[int]:
        """Each stands behind the one before."""
        return list(range(-1, len(self.tokens) - 1))

    def judge(self, log_p: Tensor, draws: Tensor, accept: Tensor) -> Verdict:
        """See :class:`Draft`."""
        count = len(self.tokens)
        drafted = torch.tensor(self.tokens, dtype=torch.int64, device=log_p.device)
        kept = int(accepted(log_p[:count], self.log_q, drafted, accept[:count]))
        behind = log_p[kept] if kept == count else residual(log_p[kept], self.log_q[kept])
        return Verdict(list(range(kept)), int(draw(behind, draws[kept])), min(kept + 1, count))
