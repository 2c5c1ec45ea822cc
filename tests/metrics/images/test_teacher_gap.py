import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.images.extractors import ClassifierFeatures, PixelFeatures
from kdlight.metrics.images.teacher_gap import TeacherGap
from kdlight.networks.images.classifier import SmallClassifier


def test_by_hand():
    metric = TeacherGap(PixelFeatures((1, 1, 2)))
    metric.update(torch.tensor([[[[3.0, 4.0]]]]), torch.zeros(1, 1, 1, 2))
    metric.update(torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, 1, 1, 2))
    result = metric.compute()
    assert result["squared"].item() == (25 / 2 + 1 / 2) / 2
    assert result["features"].item() == (5 + 1) / 2


def test_equal_samples_have_no_gap_and_shapes_must_match():
    metric = TeacherGap(ClassifierFeatures(SmallClassifier()))
    images = torch.randn(6, 1, 8, 8)
    metric.update(images, images.clone())
    result = metric.compute()
    assert result["squared"] == 0
    assert result["features"] == 0
    with pytest.raises(InputError, match="teacher: expected samples of shape"):
        metric.update(images, images[:3])
