"""Difference sampling (MiniPLM, arXiv:2410.17215): what a teacher likes more than a small model."""

import torch
from torch import Tensor


def difference(teacher_nll: Tensor, reference_nll: Tensor) -> Tensor:
    """``log p(x) - log p_ref(x)`` of rows, (n,).

    Sums over tokens: of rows of unlike length the long ones win, so pack rows to one length. The
    README of the release speaks of the ratio of the logarithms; its code, as the paper, takes this
    difference.

    Args:
        teacher_nll: Nats of each row under the teacher, (n,).
        reference_nll: The same under a small model trained on a part of the corpus.
    """
    return reference_nll - teacher_nll


def top(scores: Tensor, share: float) -> Tensor:
    """Rows of the highest scores, in the order of the corpus, (k,) int64; of equal ones the first.

    The uniform law on them has the highest mean score of all laws below ``1 / share`` times that of
    the data.

    Args:
        scores: (n,).
        share: Of the rows that stay, in (0, 1]; at least one stays.
    """
    count = max(1, round(share * len(scores)))
    ranked = scores.argsort(descending=True, stable=True)
    return ranked[:count].sort().values


def softened(scores: Tensor, beta: float) -> Tensor:
    """The law ``q ~ exp(score / beta)`` over rows, (n,) float64.

    It maximises ``E_q[score] - beta KL(q || data)``. Where the reference is the law of the data and
    beta is 1, scores are of the difference and rows are drawn from the data, ``q`` draws from the
    teacher itself.

    Args:
        scores: (n,).
        beta: Above 0; towards 0 only the highest score is left.
    """
    return (scores.double() / beta).softmax(dim=0)


def drawn(law: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows drawn by a law, with replacement, in the order of the corpus, (count,) int64."""
    return torch.multinomial(law, count, replacement=True, generator=generator).sort().values
