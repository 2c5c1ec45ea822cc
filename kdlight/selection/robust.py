"""Which rows to ask an imperfect teacher for (Robust Active Distillation, arXiv:2210.01213)."""

from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1e-3
"""Gains are at least this: one of 0 would take all queries."""


class RobustLaw(NamedTuple):
    """The law of queries.

    Attributes:
        probabilities: (n,) float64; 0 beyond the best k.
        value: What is gained a query in the worst case.
        k: Rows that may be asked for.
    """

    probabilities: Tensor
    value: float
    k: int


def robust_law(gains: Tensor, wrong: int) -> RobustLaw:
    """The law of queries that is best where the teacher errs on the worst ``wrong`` rows.

    ``max_q min_S sum_(i not in S) q_i g_i`` over sets S of ``wrong`` rows: of the k highest gains
    each has ``q_i ~ 1 / g_i``, and k makes ``(k - wrong) / sum 1 / g`` the highest. So all of the
    k gain the same, and the most uncertain is asked for the least often.

    Args:
        gains: What a right answer gains, such as 1 - the student's margin, (n,).
        wrong: How many of the rows the teacher answers wrongly, 0 to n - 1.
    """
    inverse = 1 / gains.double().clamp(min=LEAST)
    order = inverse.argsort(stable=True)
    total = inverse[order].cumsum(dim=0)
    sizes = torch.arange(1, len(gains) + 1, dtype=torch.float64)
    values = (sizes - wrong) / total
    k = int(values.argmax()) + 1
    law = torch.zeros_like(inverse)
    law[order[:k]] = inverse[order[:k]] / total[k - 1]
    return RobustLaw(law, float(values[k - 1]), k)


def without_replacement(law: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows drawn one after the other, each at most once, in order, (count,) int64.

    Where the law has fewer rows than are asked for, the rest is drawn evenly from the others. The
    closer ``count`` is to the rows of the law, the less it matters.

    Args:
        law: (n,).
        count: At most n.
        generator: Of the draws.
    """
    there = int((law > 0).sum())
    first = torch.multinomial(law, min(count, there), replacement=False, generator=generator)
    if count > there:
        others = (law == 0).nonzero()[:, 0]
        places = torch.randperm(len(others), generator=generator)[: count - there]
        first = torch.cat([first, others[places]])
    return first.sort().values
