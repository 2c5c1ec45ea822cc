"""Is the relevant passage among the first that a model finds?"""

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric


class RetrievalFit(SampleMetric):
    """Of queries with one relevant passage each, in [0, 1].

    ``ndcg_10``: mean of 1 / log2(1 + rank) up to rank 10. ``mrr_10``: mean of 1 / rank up to rank
    10. ``recall_10``: how often the rank is at most 10. A passage of an equal score counts as
    before the relevant one, so that a model that says the same of all finds nothing. Against the
    teacher ``regression_loyalty``, the mean over queries of Pearson's correlation of both models'
    scores (Romanian DistilBERTs, arXiv:2112.12650, have it for pairs of sentences).

    Args:
        teacher: Whether updates bring a teacher's scores.
        cut: The rank up to which is looked.

    Raises:
        InputError: ``cut`` is below 1.
    """

    sums: Tensor
    count: Tensor

    def __init__(self, teacher: bool, cut: int = 10) -> None:
        super().__init__()
        if cut < 1:
            raise InputError(f"cut: expected at least 1, found {cut}.")
        self.cut = cut
        names = (f"ndcg_{cut}", f"mrr_{cut}", f"recall_{cut}")
        self.names = (*names, "regression_loyalty") if teacher else names
        self.add_sums(sums=(len(self.names),), count=())

    def update(self, scores: Tensor, relevant: Tensor, teacher: Tensor | None = None) -> None:
        """Add queries.

        Args:
            scores: Of all passages, (Q, N).
            relevant: Number of the relevant one, (Q,) int64.
            teacher: The teacher's scores, (Q, N).
        """
        finite = scores.isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        known = scores[finite].double()
        own = known.gather(1, relevant[finite][:, None])
        rank = (known >= own).sum(dim=1).double()
        seen = (rank <= self.cut).double()
        found = [seen / (1 + rank).log2(), seen / rank, seen]
        if teacher is not None:
            found.append(correlation(known, teacher[finite].double()))
        self.add_to("sums", torch.stack([each.sum() for each in found]))
        self.add_to("count", len(rank))

    def enough(self) -> bool:
        return bool(self.count > 0)

    def figures(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.sums / self.count, strict=True))


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation along the last axis of (..., N), (...); 0 where one is constant."""
    own, other = (each - each.mean(dim=-1, keepdim=True) for each in (first, second))
    return torch.nn.functional.cosine_similarity(own, other, dim=-1)
