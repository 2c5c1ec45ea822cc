import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.images.labels import LabelAccuracy
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.storage.files import save_model


def test_share_of_the_asked_class(tmp_path):
    torch.manual_seed(0)
    classifier = SmallClassifier(num_classes=4).eval()
    images = torch.randn(40, 1, 8, 8)
    labels = classifier(images).argmax(1).detach()
    labels[:10] = (labels[:10] + 1) % 4
    save_model(classifier, tmp_path / "judge.safetensors")
    for judge in (classifier, str(tmp_path / "judge.safetensors")):
        metric = LabelAccuracy(judge)
        metric.train()  # a module that owns the metric switches it; dropout must stay off
        for start in range(0, 40, 16):
            metric.update(images[start : start + 16], labels[start : start + 16])
        assert metric.compute()["accuracy"].item() == 0.75


def test_wrong_labels_and_sizes_are_named():
    metric = LabelAccuracy(SmallClassifier(num_classes=4))
    with pytest.raises(InputError, match="knows 4 classes, found labels 0 to 7"):
        metric.update(torch.zeros(8, 1, 8, 8), torch.arange(8))
    with pytest.raises(InputError, match=r"expects \(1, 8, 8\), found \(3, 28, 28\)"):
        metric.update(torch.zeros(8, 3, 28, 28), torch.zeros(8, dtype=torch.long))
