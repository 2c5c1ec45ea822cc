import math

import pytest
import torch

from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
from kdlight.metrics.language.next_token import NextTokenFit

P = torch.tensor([2.0, 1.0, 0.0, -1.0])
Q = torch.tensor([0.0, 1.0, 0.0, 0.5])
MASK = torch.tensor([[True, True, False]])


def test_figures_of_two_known_laws():
    metric = NextTokenFit(golden=True, teacher=True)
    tokens = torch.tensor([[0, 1, 3]])
    truth, model = P.log_softmax(0).expand(1, 3, 4), Q.expand(1, 3, 4)
    for _ in range(2):
        metric.update(model, tokens, MASK, truth, P.expand(1, 3, 4))
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["golden_kl"] == pytest.approx(0.650679804083, abs=1e-6)
    assert found["proxy_kl"] == pytest.approx(0.650679804083, abs=1e-6)
    assert found["acceptance"] == pytest.approx(0.513145503462, abs=1e-6)
    assert found["label_loyalty"] == 0
    # Confidence 0.4269 in token 1, which is right with probability 0.2369.
    assert found["ece"] == pytest.approx(0.426932701 - 0.236882818, abs=1e-6)
    expected = math.exp(-(math.log(0.157059763) + math.log(0.426932701)) / 2)
    assert found["perplexity"] == pytest.approx(expected, abs=1e-5)


def test_calibration_without_the_truth_counts_hits():
    metric = NextTokenFit(golden=False, teacher=False)
    hits = [1, 1, 0, 1, 0]
    for confidence, hit in zip((0.95, 0.85, 0.75, 0.65, 0.55), hits, strict=True):
        law = torch.tensor([confidence, 1 - confidence]).log()[None, None]
        metric.update(law, torch.tensor([[1 - hit]]), torch.ones(1, 1, dtype=torch.bool))
    assert float(metric.compute()["ece"]) == pytest.approx(0.37, abs=1e-6)


def test_the_language_itself_is_at_zero():
    language = HMMLanguage(states=3, vocabulary=5, length=6)
    tokens = language.draw(50, torch.Generator().manual_seed(0))
    law = OracleAutoregressive(language)(tokens)
    metric = NextTokenFit(golden=True, teacher=True)
    metric.update(law, tokens, torch.ones_like(tokens, dtype=torch.bool), law, law)
    found = metric.compute()
    for name, value in (("golden_kl", 0), ("proxy_kl", 0), ("acceptance", 1), ("ece", 0)):
        assert float(found[name]) == pytest.approx(value, abs=1e-12)
    entropy = -language.log_prob(tokens).mean() / 6
    assert float(found["perplexity"].log()) == pytest.approx(float(entropy), abs=1e-6)


def test_a_diverged_model_has_no_figures():
    metric = NextTokenFit(golden=False, teacher=False)
    metric.update(Q.expand(1, 3, 4) * torch.nan, torch.tensor([[0, 1, 3]]), MASK)
    found = metric.compute()
    assert found["non_finite"] == 2
    assert found["perplexity"].isnan()
