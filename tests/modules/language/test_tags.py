"""Classifiers of tokens: their data, their distillation and what they refuse."""

import itertools
import json

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.language.text_classification_report import TextClassificationReport
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.export.language_model import export_language_model
from kdlight.networks.text.classifier import token_classifier, token_classifier_of_encoder
from kdlight.teachers.text_classifiers import classifier_teacher
from kdlight.training.optim import Optimization
from modules.language.encoders.representation_distillation import RepresentationDistillation
from modules.language.encoders.text_classification import TextClassification
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, fit
from tests.exactness.text_cases import classifier, data, tagger, tags


def test_the_posterior_of_states_is_bayes_by_enumeration():
    language = HMMLanguage(states=3, vocabulary=4, length=4, emission=0.6)
    tokens = torch.tensor([[2, 0, 4, 3], [1, 4, 4, 4]])  # 4 is a mask
    expected = torch.zeros(2, 4, 3, dtype=torch.float64)
    emission = torch.cat([language.emissions, torch.ones(3, 1, dtype=torch.float64)], dim=1)
    for path in itertools.product(range(3), repeat=4):
        steps = [language.transitions[a, b] for a, b in itertools.pairwise(path)]
        prior = language.initial[path[0]] * torch.stack(steps).prod()
        for row in range(2):
            shown = emission[torch.tensor(path), tokens[row]].prod()
            for place, state in enumerate(path):
                expected[row, place, state] += prior * shown
    expected /= expected.sum(dim=2, keepdim=True)
    found = language.state_posteriors(tokens)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_labels_are_as_likely_as_the_posterior_says_and_padding_is_not_read():
    drawn = tags()
    part = drawn._part(4000, 0)
    tokens, mask, label = part["tokens"], part["mask"], part["label"]
    law = drawn.posterior()(tokens, mask).exp()
    hit = torch.eq(law.argmax(2), label).double()
    assert float((law.amax(2) - hit)[mask].mean()) == pytest.approx(0, abs=0.02)
    assert not label[~mask].any()
    other = torch.where(mask, tokens, drawn.vocabulary - 1)
    assert torch.equal(drawn.posterior()(other, mask)[mask].exp(), law[mask])
    model = tagger(2).eval()
    read = (model(each, mask).logits[mask] for each in (tokens, other))
    assert torch.allclose(*read, rtol=0, atol=1e-5)


def test_states_do_not_change_the_sentences_that_are_drawn():
    language = HMMLanguage(states=3, vocabulary=4, length=5)
    tokens, states = language.draw_with_states(7, torch.Generator().manual_seed(1))
    assert torch.equal(tokens, language.draw(7, torch.Generator().manual_seed(1)))
    assert states.shape == tokens.shape


def test_the_loss_is_a_mean_over_all_tokens_that_are_no_padding():
    batch = next(iter(tags().train_dataloader()))
    teacher, student = tagger(2).eval(), tagger(1).eval()
    method = RepresentationDistillation(
        [teacher], student, Optimization(lr=1e-3), intermediate=0.0, label=1.0, temperature=2.0
    )
    terms, losses = {}, []
    method.optimize = lambda _, loss: losses.append(loss)
    method.report = terms.update
    method.step(batch)
    mask = batch["mask"]
    log_p, log_q = (
        (model(batch["tokens"], mask).logits[mask] / 2).log_softmax(1)
        for model in (teacher, student)
    )
    kl = 4 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    log_q = student(batch["tokens"], mask).logits[mask].log_softmax(1)
    nll = torch.nn.functional.nll_loss(log_q, batch["label"][mask])
    assert float(terms["prediction"]) == pytest.approx(float(kl), rel=1e-5)
    assert float(terms["label"]) == pytest.approx(float(nll), rel=1e-5)
    assert float(losses[0]) == pytest.approx(float(kl + nll), rel=1e-5)


def test_a_run_reports_tokens_and_can_be_a_teacher_and_a_folder(tmp_path):
    case = CASES["tag_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    callbacks = [TextClassificationReport(), SaveAt(tmp_path, (20,))]
    trained = fit(case.make(), case.data(), callbacks, logger=logger)
    teacher, student = json.loads((tmp_path / "summary.json").read_text())
    assert (teacher["model"], student["model"]) == ("teacher", "student")
    assert {"class_accuracy", "macro_f1", "golden_kl", "label_loyalty"} <= student.keys()
    batch = next(iter(tags().train_dataloader()))
    model = trained.ema.module.eval()
    expected = model(batch["tokens"], batch["mask"]).logits
    again = classifier_teacher(str(tmp_path / "20.ckpt"))
    assert torch.equal(again(batch["tokens"], batch["mask"]).logits, expected)
    export_language_model(model, tmp_path / "folder")
    read = token_classifier(str(tmp_path / "folder")).eval()
    assert torch.allclose(read(batch["tokens"], batch["mask"]).logits, expected, atol=1e-6)
    classifier(2).whole().base_model.save_pretrained(tmp_path / "encoder")
    headed = token_classifier_of_encoder(str(tmp_path / "encoder"), 5).eval()
    assert headed(batch["tokens"], batch["mask"]).logits.shape == (*batch["tokens"].shape, 5)


def test_texts_and_tokens_are_told_apart_with_a_sentence():
    settings = Optimization(lr=1e-3)
    with pytest.raises(InputError, match="expected a TokenClassifier, as the teacher is, found a"):
        RepresentationDistillation([tagger(2)], classifier(1), settings)
    for method in (
        TextClassification(tagger(1), settings, iterations=2),
        RepresentationDistillation([tagger(2)], tagger(1), settings, iterations=2),
    ):
        with pytest.raises(InputError, match=r"labels of tokens for the .* found labels of texts"):
            fit(method, data())
    two_classes = TextClassification(classifier(1), settings, iterations=2)
    with pytest.raises(InputError, match="labels of texts for the classifier, a TextClassifier"):
        fit(two_classes, tags())
