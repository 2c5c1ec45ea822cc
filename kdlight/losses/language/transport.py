"""Losses that compare laws as sorted or transported mass."""

import torch
from torch import Tensor
from torch.nn.functional import pad

OUTSIDE = -1e9
"""Log-mass between rows that do not take part."""


def sorted_distance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``sum_i |p_(i) - q_(i)|`` of sorted probabilities (ULD, arXiv:2402.12030, eq. 5).

    The vocabularies may differ, the smaller being filled up with zeros: it does not know *which*
    token is likely, and is 0 for every permutation of the teacher.

    Args:
        log_p: Teacher, (..., V).
        log_q: Student, (..., W).

    Returns:
        (...).
    """
    first, second = (each.exp().sort(dim=-1, descending=True).values for each in (log_p, log_q))
    width = max(first.shape[-1], second.shape[-1])
    first, second = (pad(each, (0, width - each.shape[-1])) for each in (first, second))
    return (first - second).abs().sum(dim=-1)


def sinkhorn(
    log_p: Tensor,
    log_q: Tensor,
    mask: Tensor,
    regularisation: float = 0.1,
    sweeps: int = 20,
) -> Tensor:
    """Cost of moving the student's rows of a group onto the teacher's (SinKD, arXiv:2402.17110).

    ``D_ij = |q_i - p_j|_1``; ``exp(-D / regularisation)`` is normalised by rows and columns in
    turn, ``sweeps`` times, and row i costs ``sum_j plan_ij D_ij``. Gradients run through all
    sweeps, as in the paper's program, which hides a weight of 0.001 in the loss and knows no
    padding. A group is what is transported among itself: here the tokens of one sequence, so that
    neither ranks nor accumulation change the loss; the paper has the batch.

    It does not see *where* a row stands: a student with the teacher's rows in another order has
    the loss of a perfect one. Add it to a divergence.

    Args:
        log_p: Teacher, (B, L, V).
        log_q: Student, (B, L, V).
        mask: Rows that take part, (B, L) bool.
        regularisation: Above 0.
        sweeps: At least 1.

    Returns:
        (B, L), 0 where ``mask`` is false.
    """
    cost = torch.cdist(log_q.exp(), log_p.exp(), p=1)
    both = mask[:, :, None] & mask[:, None, :]
    # Finite, so that sequences of nothing but padding have no NaN in their gradient.
    log_plan = (-cost / regularisation).masked_fill(~both, OUTSIDE)
    for _ in range(sweeps):
        log_plan = log_plan - _norm(log_plan, mask, 2)
        log_plan = log_plan - _norm(log_plan, mask, 1)
    return torch.where(both, log_plan.exp() * cost, torch.zeros_like(cost)).sum(dim=2)


def _norm(log_plan: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Log of the mass of every row or column that takes part; 0 of the others."""
    inside = mask.unsqueeze(dim)
    return torch.where(inside, log_plan.logsumexp(dim=dim, keepdim=True), 0.0)
