"""Losses that tell the right partner of a vector from all others of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def cosines(anchors: Tensor, others: Tensor) -> Tensor:
    """Cosine of every anchor (N, D) with every other vector (M, D), (N, M) in at least float32."""
    wide = torch.promote_types(anchors.dtype, torch.float32)
    return normalize(anchors.to(wide), dim=1) @ normalize(others.to(wide), dim=1).T


def info_nce(
    anchors: Tensor, others: Tensor, temperature: float, classes: Tensor | None = None
) -> Tensor:
    """``-log`` of the share of the own partner (van den Oord et al., arXiv:1807.03748, eq. 4).

        loss_i = -log exp(c_ii / T) / (exp(c_ii / T) + sum over negatives j of exp(c_ij / T))

    c being cosines. Where ``classes`` are given, negatives are those of other classes alone
    (LinguGKD, arXiv:2402.05894): two nodes of a class are not pushed apart, and a batch of one
    class has a loss of 0.

    Args:
        anchors: (B, D).
        others: (B, D); the i-th is the partner of the i-th anchor.
        temperature: T.
        classes: (B,) int64; None where all other rows are negatives.

    Returns:
        (B,).
    """
    scores = cosines(anchors, others) / temperature
    if classes is not None:
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill((classes[:, None] == classes) & ~own, -torch.inf)
    return -scores.log_softmax(dim=1).diagonal()


def clip_loss(queries: Tensor, passages: Tensor, scale: float) -> Tensor:
    """:func:`info_nce` both ways (CLIP, arXiv:2103.00020), (B,), from vectors (B, D).

    Args:
        queries: (B, D).
        passages: (B, D).
        scale: Of the cosines, 1 / temperature.
    """
    ways = info_nce(queries, passages, 1 / scale) + info_nce(passages, queries, 1 / scale)
    return ways / 2


def similarity_kl(
    taught: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], scale: float
) -> Tensor:
    """KL of whom each query finds among the passages of a batch, of another pair of encoders.

    Args:
        taught: Queries and passages (B, D'), which are learnt from; without gradient.
        student: Queries and passages, (B, D).
        scale: Of the cosines.

    Returns:
        (B,).
    """
    log_p = (scale * cosines(*taught)).log_softmax(dim=1).detach()
    log_q = (scale * cosines(*student)).log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)
