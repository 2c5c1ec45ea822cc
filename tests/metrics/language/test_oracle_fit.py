import pytest
import torch

from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.metrics.language.oracle_fit import OracleFit


@pytest.fixture(scope="module")
def language():
    return HMMLanguage(states=4, vocabulary=6, length=8, transition=0.1, emission=0.1)


def figures(language, tokens):
    metric = OracleFit(language)
    for part in tokens.split(700):
        metric.update(part)
    return {name: float(value) for name, value in metric.compute().items()}


def test_true_sentences_lie_at_the_floor(language):
    found = figures(language, language.draw(4000, torch.Generator().manual_seed(9)))
    assert found["nll"] == pytest.approx(found["nll_floor"], abs=0.03)
    for lag in ("", "_2", "_4"):
        assert found[f"bigram_tv{lag}"] == pytest.approx(found[f"bigram_tv{lag}_floor"], abs=0.01)


def test_independent_tokens_and_typical_sentences_are_told_apart(language):
    true = language.draw(4000, torch.Generator().manual_seed(9))
    draws = torch.Generator().manual_seed(0)
    shuffled = torch.stack([row[torch.randperm(4000, generator=draws)] for row in true.T], dim=1)
    found = figures(language, shuffled)
    assert found["nll"] > found["nll_floor"] + 0.05
    assert found["bigram_tv"] > 3 * found["bigram_tv_floor"]
    likeliest = true[language.log_prob(true).argsort(descending=True)[:1000]]
    assert figures(language, likeliest)["nll"] < found["nll_floor"] - 0.2


def test_foreign_tokens_are_named(language):
    with pytest.raises(InputError, match="expected 8 tokens of 0 to 5 a row, found shape"):
        OracleFit(language).update(torch.zeros(2, 7, dtype=torch.int64))
    with pytest.raises(InputError, match="tokens 6 to 6"):
        OracleFit(language).update(torch.full((2, 8), 6))
