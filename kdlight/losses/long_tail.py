"""Losses of data whose classes are of unlike size."""

from torch import Tensor

from kdlight.losses.language.divergences import forward_kl


def adjusted(scores: Tensor, log_counts: Tensor, strength: Tensor | float) -> Tensor:
    """``scores + strength * log counts`` (Menon et al., arXiv:2007.07314).

    Cross-entropy on these has its minimum where ``softmax(scores)`` is proportional to
    ``p(y | x) counts_y ** -strength``: 0 is the data's own law, 1 that of balanced classes.

    Args:
        scores: (..., C).
        log_counts: Logarithms of the training images of each class, (C,).
        strength: One number, or of a shape that broadcasts.
    """
    return scores + strength * log_counts


def confident_consistency(weak: Tensor, strong: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """``KL(weak || strong)`` where the weak view is classified right (MDCS, arXiv:2308.09922).

    Args:
        weak: Scores of the weakly augmented view, (B, ..., C); without gradient.
        strong: Scores of the strongly augmented view, the same shape.
        label: (B,) int64.

    Returns:
        The divergences, (B, ...), and which of them count.
    """
    weak = weak.detach()
    right = weak.argmax(dim=-1) == label.view(-1, *[1] * (weak.ndim - 2))
    return forward_kl(weak.log_softmax(dim=-1), strong.log_softmax(dim=-1)), right
