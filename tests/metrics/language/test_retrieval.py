import math

import pytest
import torch
from torchmetrics.functional.retrieval import (
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from kdlight.metrics.language.retrieval import RetrievalFit


def test_ranks_by_hand():
    metric = RetrievalFit(teacher=True)
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    metric.update(scores, torch.tensor([0, 1, 0]), 2 * scores + 7)
    found = metric.compute()
    # Where all are alike the relevant one is the last.
    assert float(found["mrr_10"]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert float(found["ndcg_10"]) == pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 3)
    assert found["recall_10"] == 1
    assert float(found["regression_loyalty"]) == pytest.approx(2 / 3)


def test_correlation_of_the_sheet():
    metric = RetrievalFit(teacher=True)
    teacher = torch.tensor([[1.5, 2.0, 2.5, 5.0]])
    metric.update(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([3]), teacher)
    assert float(metric.compute()["regression_loyalty"]) == pytest.approx(0.913500278391, abs=1e-7)


def test_figures_are_torchmetrics_own():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 40, generator=generator)
    relevant = torch.randint(40, (20,), generator=generator)
    metric = RetrievalFit(teacher=False)
    for part in (slice(0, 7), slice(7, 20)):
        metric.update(scores[part], relevant[part])
    found = metric.compute()
    target = torch.nn.functional.one_hot(relevant, 40).bool()
    for name, theirs in (
        ("ndcg_10", retrieval_normalized_dcg),
        ("mrr_10", retrieval_reciprocal_rank),
        ("recall_10", retrieval_recall),
    ):
        each = [theirs(own, true, top_k=10) for own, true in zip(scores, target, strict=True)]
        assert float(found[name]) == pytest.approx(float(torch.stack(each).mean()), abs=1e-6)
    metric.update(scores * torch.nan, relevant)
    assert metric.compute()["ndcg_10"].isnan()
