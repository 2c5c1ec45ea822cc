"""Divergences on a part of the vocabulary: the teacher's likeliest tokens."""

from typing import Literal

import torch
from torch import Tensor

from kdlight.losses.language.divergences import forward_kl

Tail = Literal["bucket", "renormalised", "ignored"]


def log_rest(log_kept: Tensor) -> Tensor:
    """Log of the mass that tokens of log-probabilities ``log_kept`` (..., K) leave, (...)."""
    kept = log_kept.logsumexp(dim=-1).clamp(max=-torch.finfo(log_kept.dtype).tiny)
    # Mass of nearly 1: log1p(-exp) alone is inexact there, expm1 alone near 0.
    near = kept > -0.6931
    log_of_expm1 = torch.where(near, kept, -1.0).expm1().neg().log()
    return torch.where(near, log_of_expm1, (-torch.where(near, -1.0, kept).exp()).log1p())


def top_k(log_p: Tensor, log_q: Tensor, k: int, tail: Tail = "bucket") -> Tensor:
    """KL(p || q) on the teacher's ``k`` likeliest tokens (FIRST, arXiv:2408.12168).

    Args:
        log_p: Teacher, (..., V).
        log_q: Student, (..., V).
        k: Tokens that are kept, fewer than V.
        tail: ``bucket``, the rest is one more class: a lower bound of the whole KL, 0 only where
            the student has the right mass in it. ``renormalised``, both laws on the k tokens alone:
            blind to mass that the student puts elsewhere. ``ignored``, the teacher renormalised and
            the student not (DistillKit's default): not 0 at p = q but ``-log`` of the kept mass,
            which teaches over-confidence.

    Returns:
        (...).
    """
    if k >= log_p.shape[-1]:
        return forward_kl(log_p, log_q)
    likeliest = log_p.topk(k, dim=-1)
    return top_k_stored(likeliest.values, log_q, likeliest.indices, tail)


def top_k_stored(log_p: Tensor, log_q: Tensor, indices: Tensor, tail: Tail = "bucket") -> Tensor:
    """:func:`top_k` of log-probabilities that were stored, as a cache of a teacher holds them.

    Args:
        log_p: Teacher at the kept tokens, (..., K), normalised over the whole vocabulary.
        log_q: Student, (..., V).
        indices: The kept tokens, (..., K) int64.
        tail: As in :func:`top_k`.
    """
    own = log_q.gather(-1, indices)
    if tail == "bucket":
        first = torch.cat([log_p, log_rest(log_p)[..., None]], dim=-1)
        return forward_kl(first, torch.cat([own, log_rest(own)[..., None]], dim=-1))
    log_p = log_p.log_softmax(dim=-1)
    return forward_kl(log_p, own.log_softmax(dim=-1) if tail == "renormalised" else own)
