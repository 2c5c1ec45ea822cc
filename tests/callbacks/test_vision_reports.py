"""What the reports of vision write, of tiny trainings on digits."""

import json
from pathlib import Path

import lightning as L
import pytest
from PIL import Image

from datamodules.images.digits import DigitsDataModule
from datamodules.images.long_tail import LongTailDataModule
from kdlight.callbacks.images.classification import ClassificationReport
from kdlight.callbacks.images.distilled import DistilledSetReport
from kdlight.callbacks.images.encoders import EncoderReport
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.networks.images.expert_heads import ExpertClassifier
from kdlight.networks.images.feature_pool import ConvEncoder
from kdlight.networks.images.vit import MaskedAutoencoder, ViT
from kdlight.training.optim import Optimization
from modules.vision.dataset_distillation import DatasetDistillation
from modules.vision.expert_distillation import ExpertDistillation
from modules.vision.masked_distillation import MaskedDistillation
from tests.exactness.harness import TinyImages, fit


def vit(width: int = 8) -> ViT:
    return ViT(size=8, patch_size=4, width=width, depth=1, heads=2)


def written(module: L.LightningModule, data: L.LightningDataModule, report: L.Callback, to: Path):
    fit(module, data, [report], default_root_dir=to, limit_val_batches=0)
    return {row["model"]: row for row in json.loads((to / "summary.json").read_text())}


def test_classifiers_of_a_long_tail(tmp_path: Path) -> None:
    student = ExpertClassifier(SmallClassifier(width=2, features=4))
    module = ExpertDistillation(student, Optimization(), AffineAugmentation(), iterations=2)
    data = LongTailDataModule(DigitsDataModule(), largest=110, batch_size=8, steps_per_epoch=2)
    row = written(module, data, ClassificationReport(repeats=1), tmp_path)["student"]
    assert {"top1", "top5", "ece", "balanced_accuracy", "ms_per_image"} <= row.keys()
    assert {"accuracy_many", "accuracy_medium", "accuracy_few"} <= row.keys()
    assert 0 <= row["top1"] <= row["top5"] <= 1
    known = json.loads((tmp_path / "classes.json").read_text())
    assert known == {"class_names": [str(digit) for digit in range(10)], "shape": [1, 8, 8]}


def test_encoders(tmp_path: Path) -> None:
    student = MaskedAutoencoder(vit(4), width=4, heads=2)
    module = MaskedDistillation(vit(), student, Optimization(), 2)
    data = DigitsDataModule(batch_size=8, steps_per_epoch=2)
    report = EncoderReport(images=60, labels_per_class=1, fine_tuning_steps=1)
    rows = written(module, data, report, tmp_path)
    assert list(rows) == ["teacher", "student"]
    assert "few_label_accuracy" not in rows["teacher"]
    assert {"linear_probe", "few_label_accuracy", "head_similarity"} <= rows["student"].keys()
    with pytest.raises(InputError, match="EncoderReport: expected a method that ends in encoders"):
        written(distillation(), data, report, tmp_path)


def distillation() -> DatasetDistillation:
    network = ConvEncoder(outputs=8, width=2, features=4)
    return DatasetDistillation(vit(), network, Optimization(), count=3, pool_size=2, iterations=2)


def test_a_distilled_set(tmp_path: Path) -> None:
    data = DigitsDataModule(batch_size=8, steps_per_epoch=2)
    report = DistilledSetReport(steps=2, labels_per_class=1)
    rows = written(distillation(), data, report, tmp_path)
    assert [row["images"] for row in rows.values()] == [3, 3, 1437, 0]
    assert all(row["feature_error"] > 0 for row in rows.values())
    assert Image.open(tmp_path / "distilled" / "000002.png").size == (8, 8)
    assert (tmp_path / "samples" / "final_distilled_3.png").is_file()


def test_data_without_classes_have_no_probes() -> None:
    class WithoutClasses(TinyImages):
        num_classes = 0

    with pytest.raises(InputError, match="expected data with classes, which its probes learn"):
        fit(distillation(), WithoutClasses(), [DistilledSetReport()])
