"""Losses of models that score passages for a query."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded


class Weighed(NamedTuple):
    """Losses and what each counts, of one shape."""

    values: Tensor
    weights: Tensor


def margin_squares(student: Tensor, teacher: Tensor) -> Tensor:
    """``((s+ - s-) - (t+ - t-))^2`` of every other passage (Hofstaetter et al., arXiv:2010.02666).

    Blind to what is added to all scores of a query, not to their scale: a cosine cannot follow
    margins of 10.

    Args:
        student: Scores, (B, C), the relevant passage first.
        teacher: Scores, (B, C).

    Returns:
        (B, C - 1).
    """
    own, taught = (each[:, :1] - each[:, 1:] for each in (student, teacher))
    return (own - taught).square()


class RankingObjective(Recorded, nn.Module):
    """Base of the objectives: losses of the scores of a query's passages."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Weighed:
        """Losses of a batch, whose weighed mean is minimised.

        Args:
            student: Scores, (B, C), the relevant passage first.
            teacher: Scores, (B, C).
            mask: Passages that there are, (B, C) bool; the first always.
        """
        raise NotImplementedError


class MarginMSE(RankingObjective):
    """:func:`margin_squares`, a mean over pairs of passages: long lists count for more."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Weighed:
        return Weighed(margin_squares(student, teacher), mask[:, 1:].to(student.dtype))


class PointwiseMSE(RankingObjective):
    """Squared difference of the scores themselves, which asks for the teacher's scale."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Weighed:
        return Weighed((student - teacher).square(), mask.to(student.dtype))


class LabelsAlone(RankingObjective):
    """Cross-entropy of the relevant passage among a query's: what needs no teacher."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Weighed:
        nll = -student.masked_fill(~mask, -torch.inf).log_softmax(dim=1)[:, 0]
        return Weighed(nll, torch.ones_like(nll))


class ListKL(RankingObjective):
    """KL of the laws over a query's passages, softmaxes of the scores of teacher and student."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Weighed:
        log_p, log_q = (
            each.masked_fill(~mask, -1e4).log_softmax(dim=1) for each in (teacher, student)
        )
        kl = (log_p.exp() * (log_p - log_q)).sum(dim=1)
        return Weighed(kl, torch.ones_like(kl))
