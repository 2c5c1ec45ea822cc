"""Scores of images, what is chosen by them, and training on it."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from datamodules.images.digits import DigitsDataModule
from datamodules.images.queried import QueriedDataModule, pool_of
from datamodules.images.unlabelled import UnlabelledDataModule
from kdlight.errors import InputError
from kdlight.networks.images.classifier import ConfusedClassifier, SmallClassifier
from kdlight.selection.files import read_scores
from kdlight.storage.files import save_model
from tests.commands.tiny import Run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classifiers and a configuration of digits of which 100 have a label."""
    folder = tmp_path_factory.mktemp("images")
    for name, classes in (("student", 10), ("other", 3)):
        torch.manual_seed(0)
        save_model(SmallClassifier(num_classes=classes, width=4), folder / f"{name}.safetensors")
    data = {
        "class_path": "datamodules.images.unlabelled.UnlabelledDataModule",
        "init_args": {
            "data": {"class_path": "datamodules.images.digits.DigitsDataModule"},
            "labels": 100,
        },
    }
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    return folder


def unlabelled(labels: int = 100) -> UnlabelledDataModule:
    return UnlabelledDataModule(DigitsDataModule(), labels)


def test_images_are_scored_chosen_and_trained_on(place: Path, kdlight: Run, tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    words = ["--student", place / "student.safetensors", "--output", scores]
    code, _, err = kdlight("score", place / "data.yaml", *words, "--batch-size", 500)
    assert code == 0, err
    facts, columns = read_scores(scores)
    assert (facts["kind"], facts["count"]) == ("images", 1437)
    pool, labels = pool_of(unlabelled())
    assert columns["label"].tolist() == labels.tolist()
    torch.manual_seed(0)
    student = SmallClassifier(width=4).eval()
    with torch.no_grad():
        law = student(pool["image"]).double().softmax(dim=1)
    best = law.topk(2, dim=1).values
    torch.testing.assert_close(
        columns["student_margin"], best[:, 0] - best[:, 1], rtol=1e-5, atol=1e-6
    )
    for by in ("margin", "robust", "random"):
        output = tmp_path / f"{by}.json"
        words = ["--by", by, "--keep", 0.03, "--without-label", "--output", output]
        code, out, err = kdlight("select", scores, *words)
        assert code == 0, err
        assert "40 of 1437 rows\n" in out
        rows = json.loads(output.read_text())["rows"]
        assert len(rows) == 40
        assert (labels[rows] < 0).all(), "none that has a label is asked for"
        training = QueriedDataModule(unlabelled(), str(output)).splits.training
        assert len(training["label"]) == 140
        assert int((training["label"] >= 0).sum()) == 100
    with pytest.raises(InputError, match="expected a selection from these data"):
        QueriedDataModule(unlabelled(200), str(output)).setup()


def test_bad_choices_of_images_are_named(place: Path, kdlight: Run, tmp_path: Path) -> None:
    words = ["--student", place / "other.safetensors", "--output", tmp_path / "x.jsonl"]
    code, _, err = kdlight("score", place / "data.yaml", *words)
    message = "--student: expected a classifier of the data's 10 classes, found one of 3"
    assert (code, message in err) == (2, True), err
    assert not list(tmp_path.iterdir())


def test_a_confused_classifier_errs_where_two_classes_are_close() -> None:
    torch.manual_seed(0)
    member = SmallClassifier(width=4).eval()
    image = torch.rand(40, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        scores = member(image)
        best = scores.softmax(dim=1).topk(2, dim=1)
        gap = best.values[:, 0] - best.values[:, 1]
        bound = float(gap.median())
        found = ConfusedClassifier(member, bound)(image)
    close = gap < bound
    assert 0 < int(close.sum()) < 40
    assert torch.equal(found[~close], scores[~close])
    assert torch.equal(found[close].argmax(dim=1), best.indices[close, 1])
    torch.testing.assert_close(found.sort(dim=1).values, scores.sort(dim=1).values)
    other = SmallClassifier(width=4).eval()
    with torch.no_grad():
        judged = ConfusedClassifier(other, bound, judge=member)(image)
        own = other(image).topk(2, dim=1).indices
    assert torch.equal(judged.argmax(dim=1), torch.where(close, own[:, 1], own[:, 0]))
