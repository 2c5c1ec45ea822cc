import json

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.language.text_classification_report import TextClassificationReport
from kdlight.errors import InputError
from kdlight.export.language_model import export_language_model
from kdlight.losses.language.matching import MutualInformation
from kdlight.networks.text.classifier import (
    TextClassifier,
    classifier_of_encoder,
    text_classifier,
)
from kdlight.teachers.text_classifiers import classifier_teacher
from kdlight.training.optim import Optimization
from modules.language.encoders.representation_distillation import RepresentationDistillation
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, fit
from tests.exactness.text_cases import LENGTH, V, classifier, data


def method(teachers, **kwargs):
    return RepresentationDistillation(teachers, classifier(1), Optimization(lr=1e-3), **kwargs)


def test_two_equal_teachers_are_one_and_combinations_are_two_means():
    batch = next(iter(data().train_dataloader()))
    tokens, mask = batch["tokens"], batch["mask"]
    one, two = (method([classifier(2)] * count) for count in (1, 2))
    assert torch.allclose(
        one.teacher_law(tokens, mask), two.teacher_law(tokens, mask), rtol=0, atol=1e-6
    )
    laws = [each(tokens, mask).logits.log_softmax(1) for each in (classifier(2), classifier(3))]
    arithmetic = method([classifier(2), classifier(3)]).combined(laws)
    geometric = method([classifier(2), classifier(3)], combine="logits").combined(laws)
    assert torch.allclose(arithmetic.exp(), (laws[0].exp() + laws[1].exp()) / 2, atol=1e-6)
    product = (laws[0].exp() * laws[1].exp()).sqrt()
    assert torch.allclose(geometric.exp(), product / product.sum(1, keepdim=True), atol=1e-6)


def test_padding_is_not_read():
    batch = next(iter(data().train_dataloader()))
    tokens, mask = batch["tokens"], batch["mask"]
    other = torch.where(mask, tokens, V - 1)
    model = classifier(2).eval()
    assert torch.allclose(model(tokens, mask).logits, model(other, mask).logits, rtol=0, atol=1e-6)
    posterior = data().posterior()
    assert torch.equal(posterior(tokens, mask), posterior(other, mask))


def test_the_truth_is_right_as_often_as_it_says():
    drawn = data()
    drawn.num_samples = 4000
    part = drawn._part(4000, 0)
    law = drawn.posterior()(part["tokens"], part["mask"]).exp()
    hit = torch.eq(law.argmax(1), part["label"]).double().mean()
    assert float(law.amax(1).mean() - hit) == pytest.approx(0, abs=0.03)


def test_a_run_reports_teachers_and_student_and_can_be_a_teacher(tmp_path):
    case = CASES["representation_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    report = TextClassificationReport()
    trained = fit(case.make(), case.data(), [report, SaveAt(tmp_path, (20,))], logger=logger)
    teacher, student = json.loads((tmp_path / "summary.json").read_text())
    assert (teacher["model"], student["model"]) == ("teacher", "student")
    assert "proxy_kl" not in teacher
    assert {"golden_kl", "label_loyalty", "probability_loyalty", "smooth_ece"} <= student.keys()
    again = classifier_teacher(str(tmp_path / "20.ckpt"))
    batch = next(iter(data().train_dataloader()))
    expected = trained.ema.module.eval()(batch["tokens"], batch["mask"]).logits
    assert torch.equal(again(batch["tokens"], batch["mask"]).logits, expected)


def test_what_compares_layers_is_trained_and_is_not_in_the_student():
    made = method([classifier(2)], matching=MutualInformation())
    own = {id(each) for each in made.student.parameters()}
    trained = {id(each) for each in made.trained("student")}
    assert own < trained
    assert trained - own == {id(each) for each in made.matches.parameters()}


def test_folders_of_transformers_are_read_and_what_does_not_fit_is_said(tmp_path):
    source = classifier(2).eval()
    export_language_model(source, tmp_path / "whole")
    batch = next(iter(data().train_dataloader()))
    tokens, mask = batch["tokens"], batch["mask"]
    read = text_classifier(str(tmp_path / "whole")).eval()
    assert torch.allclose(read(tokens, mask).logits, source(tokens, mask).logits, atol=1e-6)
    source.whole().base_model.save_pretrained(tmp_path / "encoder")
    headed = classifier_of_encoder(str(tmp_path / "encoder"), 3).eval()
    assert headed(tokens, mask).logits.shape == (len(tokens), 3)
    assert torch.allclose(headed(tokens, mask).states[-1], source(tokens, mask).states[-1])
    with pytest.raises(InputError, match="expected the weights of a classifier of transformers"):
        text_classifier(str(tmp_path / "encoder"))
    with pytest.raises(InputError, match="teacher's classes, 2, found 3"):
        RepresentationDistillation([source], headed, Optimization(lr=1e-3))
    with pytest.raises(InputError, match="expected a teacher and weights"):
        method([])
    with pytest.raises(InputError, match="found 'gpt5'"):
        TextClassifier({"model_type": "gpt5"}, 2)
    with pytest.raises(InputError, match="method that ends in classifiers of texts"):
        fit(CASES["language_training"].make(), data(), [TextClassificationReport()])
    assert tokens.shape[1] == LENGTH
