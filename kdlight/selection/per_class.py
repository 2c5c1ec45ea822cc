"""Images of which a classifier is sure, the same number of each class (SSLD, arXiv:2103.05959)."""

import torch
from torch import Tensor


def surest_per_class(scores: Tensor, count: int, least: float = 0.0) -> Tensor:
    """Rows of the highest confidence, of each class that is the likeliest somewhere.

    The teacher's scores, not the student's: a student's first guesses would choose what confirms
    them.

    Args:
        scores: Logits, (N, C).
        count: The most rows of a class; all of a class that has fewer.
        least: Confidence below which no row is kept, in [0, 1].

    Returns:
        (n,) int64, in the order of the data; of equal rows the first.
    """
    confidence, guess = scores.double().softmax(dim=1).max(dim=1)
    kept = []
    for value in range(scores.shape[1]):
        rows = torch.nonzero((guess == value) & (confidence >= least))[:, 0]
        order = confidence[rows].argsort(descending=True, stable=True)
        kept.append(rows[order[:count]])
    return torch.cat(kept).sort().values
