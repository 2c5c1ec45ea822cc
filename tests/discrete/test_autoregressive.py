"""Left to right, held to a tiny language that is enumerated."""

import itertools

import pytest
import torch

from kdlight.core.ranks import joint_mean
from kdlight.discrete.autoregressive import (
    AutoregressiveGenerator,
    AutoregressiveModel,
    OracleAutoregressive,
    left_to_right,
)
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.losses.next_tokens import next_token_nll
from kdlight.networks.text.token_transformer import TokenTransformer

V, L = 3, 4


@pytest.fixture(scope="module")
def language():
    return HMMLanguage(states=3, vocabulary=V, length=L, transition=1.0, emission=1.0)


def test_the_oracle_predicts_what_the_chain_rule_says(language):
    sentences = torch.tensor(list(itertools.product(range(V), repeat=L)))
    model = OracleAutoregressive(language)
    each = -model(sentences).gather(2, sentences[..., None])[..., 0]
    assert torch.allclose(-each, language.log_prob_steps(sentences), atol=1e-14)
    assert torch.allclose(model.following(sentences[:, :2]), model(sentences)[:, 2], atol=1e-14)
    assert torch.allclose(
        model.following(sentences[:1, :0]).exp()[0], language.initial @ language.emissions
    )
    assert torch.allclose(next_token_nll(model(sentences), sentences).double(), each, atol=1e-6)


def test_samples_have_the_law_and_a_prompt_is_kept(language):
    count = 20_000
    start = torch.full((count, L), V)
    start[:, 0] = 1
    found = left_to_right(OracleAutoregressive(language), start, RowDraws(torch.arange(count), 0))
    assert (found.tokens[:, 0] == 1).all()
    assert (found.calls == L - 1).all()
    assert found.revealed_at[0].tolist() == [0, 1, 2, 3]
    index = (found.tokens * V ** torch.arange(L)).sum(dim=1)
    sentences = torch.tensor(list(itertools.product(range(V), repeat=L)))
    law = torch.zeros(V**L, dtype=torch.float64)
    joint = language.log_prob(sentences).exp() * (sentences[:, 0] == 1)
    law[(sentences * V ** torch.arange(L)).sum(dim=1)] = joint / joint.sum()
    seen = torch.bincount(index, minlength=V**L) / count
    assert float((seen - law).abs().sum() / 2) < 0.02


def test_logits_stand_at_their_tokens_and_a_row_does_not_depend_on_its_batch():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TokenTransformer(V, width=8, depth=1, heads=2, causal=True)
        torch.nn.init.normal_(network.head.weight)
    model = AutoregressiveModel(network, V, L)
    tokens = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]])
    logits = model(tokens)
    for place in range(L):
        assert torch.allclose(model.following(tokens[:, :place]), logits[:, place], atol=1e-6)
    generator = AutoregressiveGenerator(model)
    whole = generator(generator.masks(6), seed=3)
    part = generator(generator.masks(2), seed=3, first=4)
    assert torch.equal(whole.tokens[4:], part.tokens)


def test_a_mean_over_scored_tokens_by_hand():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert float(joint_mean(values, torch.tensor([[1.0, 0.0], [1.0, 1.0]]))) == pytest.approx(8 / 3)


@pytest.mark.parametrize("kind", [AutoregressiveModel, MaskedDenoiser])
def test_a_network_of_other_tokens_is_refused(kind):
    network = TokenTransformer(9, width=8, depth=1, heads=2)
    with pytest.raises(InputError, match="vocabulary: expected that of the network, 9, found 4"):
        kind(network, 4, 4)
