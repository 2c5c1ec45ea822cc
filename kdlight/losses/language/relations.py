"""How the tokens of a text relate to one another, for features of any width."""

import torch
from torch import Tensor

from kdlight.losses.language.divergences import forward_kl


def self_relations(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Log of softmax(h h^T / sqrt(d)) of every head, (B, heads, L, L).

    MiniLMv2's relations (arXiv:2012.15828, eq. 5) of one kind of vector: ``states`` is cut into
    ``heads`` parts of width d, whatever heads the model itself has, so that models of unlike width
    are compared without a projection.

    Args:
        states: (B, L, D), D a multiple of ``heads``.
        mask: Tokens that are no padding, (B, L) bool; others have no weight.
        heads: Parts.
    """
    parts = states.reshape(*states.shape[:2], heads, -1).transpose(1, 2)
    found: Tensor = parts @ parts.transpose(2, 3) / parts.shape[-1] ** 0.5
    return found.masked_fill(~mask[:, None, None, :], -torch.inf).log_softmax(dim=-1)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """KL(teacher || student) of :func:`self_relations`, mean over heads (MiniLMv2, eq. 4).

    Args:
        student: (B, L, D).
        teacher: (B, L, E).
        mask: (B, L) bool; every row has a token.
        heads: Parts of both.

    Returns:
        (B, L), of every token's relations to all others; what padding says is of no use.
    """
    log_p, log_q = (self_relations(each, mask, heads) for each in (teacher, student))
    unseen = torch.zeros((), dtype=log_q.dtype, device=log_q.device)
    # Padding has no weight in either; -inf minus -inf would be NaN.
    log_q = torch.where(mask[:, None, None, :], log_q, unseen)
    return forward_kl(log_p, log_q).mean(dim=1)
