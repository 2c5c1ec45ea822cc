"""Guidance with exact conditionals, enumerated: 27 answers to a prompt of two tokens."""

import itertools

import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.discrete.denoiser import OracleDenoiser
from kdlight.discrete.guidance import GuidedTokenDenoiser
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError

V, L, PROMPT = 3, 5, (0, 1)


@pytest.fixture(scope="module")
def language():
    return HMMLanguage(states=3, vocabulary=V, length=L, transition=0.5, emission=0.5)


def law(language, scale, order=(2, 3, 4)):
    """Of the answers, token by token in ``order``, (27,)."""
    guided = GuidedTokenDenoiser(OracleDenoiser(language), scale, [True, True, False, False, False])
    answers = torch.tensor(list(itertools.product(range(V), repeat=3)))
    rows = torch.cat([torch.tensor(PROMPT).expand(27, 2), answers], dim=1)
    total = torch.zeros(27, dtype=torch.float64)
    for position, place in enumerate(order):
        seen = rows.clone()
        seen[:, list(order[position:])] = V
        total += guided(seen)[torch.arange(27), place, rows[:, place]]
    return total.exp()


def entropy(found):
    return float(-torch.xlogy(found, found).sum())


def test_no_guidance_is_the_model_and_minus_one_forgets_the_prompt(language):
    answers = torch.tensor(list(itertools.product(range(V), repeat=3)))
    whole = torch.cat([torch.tensor(PROMPT).expand(27, 2), answers], dim=1)
    conditional = language.log_prob(whole).softmax(dim=0)
    blank = whole.clone()
    blank[:, :2] = V
    assert torch.allclose(law(language, 0), conditional, atol=1e-14)
    assert torch.allclose(law(language, -1), language.log_prob(blank).exp(), atol=1e-14)


def test_every_scale_gives_a_law_which_depends_on_the_order_but_at_zero(language):
    for scale in (-1, 0, 0.5, 2, 4):
        assert float(law(language, scale).sum()) == pytest.approx(1, abs=1e-12)
    turned = (4, 3, 2)
    assert torch.allclose(law(language, 0), law(language, 0, turned), atol=1e-14)
    assert float((law(language, 2) - law(language, 2, turned)).abs().sum()) > 1e-3
    # The larger the scale, the farther from the model.
    away = [float((law(language, w) - law(language, 0)).abs().sum()) for w in (0.5, 1, 2, 4)]
    assert away == sorted(away)


def test_a_prompt_that_says_nothing_changes_nothing():
    language = HMMLanguage(states=1, vocabulary=V, length=L)
    assert torch.allclose(law(language, 3), law(language, 0), atol=1e-14)


def test_it_travels_in_a_file_and_names_what_does_not_fit(language):
    made = GuidedTokenDenoiser(OracleDenoiser(language), 1.5, [True] + [False] * 4)
    again = build(spec_of(made))
    seen = torch.tensor([[0, V, V, 1, V]])
    assert torch.equal(again(seen), made(seen))
    assert again(seen)[0, 3].exp().tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="prompt: expected 5 positions, found 2"):
        GuidedTokenDenoiser(OracleDenoiser(language), 1.0, [True, False])
