"""Shares of domains that follow where a student is behind its teacher (DDK, arXiv:2407.16154)."""

from torch import Tensor


def perplexity_ratios(student: Tensor, teacher: Tensor, most: float = 10.0) -> Tensor:
    """How much more perplexed a student is than its teacher, domain by domain, (N,) float64.

    Args:
        student: Nats a token, (N,).
        teacher: The same.
        most: The ratio is cut off there. Early in training it is 20 and more, and as the shares
            take its exponential, one domain would take all. The paper cuts nothing.
    """
    return (student.double() - teacher.double()).exp().clamp(max=most)


def first_shares(ratios: Tensor) -> Tensor:
    """Shares before any update, ``r ~ exp(ratio)``, (N,) float64."""
    return ratios.double().softmax(dim=0)


def next_shares(shares: Tensor, ratios: Tensor, smoothing: float = 0.5) -> Tensor:
    """Shares after a measurement, (N,) float64.

    ``psi = r exp(ratio); r = a psi / sum psi + (1 - a) / N``. Equal ratios keep equal shares; a
    domain in which the teacher is no better starves down to ``(1 - a) / N``.

    Args:
        shares: Of the domains so far, (N,).
        ratios: Of :func:`perplexity_ratios`.
        smoothing: a, from 0 (equal shares) to 1.
    """
    psi = (shares.double().log() + ratios.double()).softmax(dim=0)
    return smoothing * psi + (1 - smoothing) / len(shares)
