"""Relations between neighbouring tokens of a phrase."""

import torch
from torch import Tensor


def span_correlation(log_p: Tensor, log_q: Tensor, spans: Tensor) -> Tensor:
    """Squared difference of the products of neighbours in a span (arXiv:2407.10068, L_span).

    ``r_i = p_i * p_(i+1)``, elementwise over the vocabulary, for neighbours of one span; the loss
    of token i is ``|r^p_i - r^q_i|^2``. The products are of the size p^2, so each is divided by its
    sum: otherwise the gradient all but vanishes. Neither program nor exact form was released:
    squared difference and normalisation are ours.

    Args:
        log_p: Teacher, (B, L, V).
        log_q: Student, (B, L, V).
        spans: Number of each token's span, below 0 outside of spans, (B, L) int64.

    Returns:
        (B, L), 0 at the last token of a span and outside of spans.
    """
    together = (spans[:, :-1] == spans[:, 1:]) & (spans[:, :-1] >= 0)
    first, second = (
        (each[:, :-1] + each[:, 1:]).log_softmax(dim=-1).exp() for each in (log_p, log_q)
    )
    squared = (first - second).square().sum(dim=-1)
    inside = torch.where(together, squared, torch.zeros_like(squared))
    return torch.cat([inside, torch.zeros_like(inside[:, :1])], dim=1)
