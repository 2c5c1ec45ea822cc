"""Figures of classifiers by hand."""

import math

import pytest
import torch

from kdlight.metrics.images.classification import ClassificationFit


def test_figures_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    label = torch.tensor([0, 1, 1, -1])
    teacher = torch.tensor([[0.5, 0.5 - 1e-9], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]])
    metric = ClassificationFit(2, teacher=True, groups={"few": [1]})
    metric.update(probabilities.log(), label, teacher.double().log())
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["accuracy_few"] == pytest.approx(1 / 2)
    assert found["class_nll"] == pytest.approx(-(math.log(0.9 * 0.2 * 0.7)) / 3, rel=1e-6)
    # Three bins of one image each: .1 and .3 too little, .8 too much.
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.3) / 3, rel=1e-6)
    assert found["agreement"] == pytest.approx(3 / 4)
    by_hand = [0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)]
    by_hand += [0.2 * math.log(0.2 / 0.8) + 0.8 * math.log(0.8 / 0.2), 0.0]
    by_hand += [0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)]
    assert found["teacher_kl"] == pytest.approx(sum(by_hand) / 4, rel=1e-5)
    assert "top5" not in found


def test_five_likeliest_and_no_labels() -> None:
    scores = torch.arange(7.0).repeat(2, 1)
    metric = ClassificationFit(7)
    metric.update(scores, torch.tensor([2, 1]))
    assert float(metric.compute()["top5"]) == 0.5
    blind = ClassificationFit(7, teacher=True, labelled=False)
    blind.update(scores, torch.tensor([-1, -1]), scores)
    found = blind.compute()
    assert set(found) == {"agreement", "teacher_kl", "non_finite"}
    assert float(found["agreement"]) == 1.0
    assert float(found["teacher_kl"]) == 0.0
