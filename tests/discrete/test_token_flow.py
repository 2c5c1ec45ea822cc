"""The map from noise to tokens: deterministic, and exact in its law."""

import pytest
import torch

from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.jumps import JumpGenerator, JumpModel, jump, standard_normal
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.token_flow import TokenCodes, flow_to_sequences, flowed, ranked
from kdlight.errors import InputError
from kdlight.networks.text.vector_transformer import VectorTransformer


def test_in_one_dimension_the_flow_is_the_quantile_map():
    codes = torch.tensor([0.5, -1.5, 1.2, -0.2], dtype=torch.float64)
    law = torch.tensor([0.1, 0.3, 0.4, 0.2], dtype=torch.float64)
    noise = standard_normal(RowDraws(torch.arange(4000), 0), 1, 1)[:, 0, 0]
    log_probs = law.log().expand(len(noise), -1)
    exact = ranked(noise, log_probs, codes)
    # Codes sorted: tokens 1, 3, 0, 2 of mass 0.3, 0.2, 0.1, 0.4.
    bounds = torch.special.ndtri(torch.tensor([0.3, 0.5, 0.6], dtype=torch.float64))
    assert torch.equal(exact, torch.tensor([1, 3, 0, 2])[torch.bucketize(noise, bounds)])
    agree = [
        float((flowed(noise[:, None], log_probs, codes[:, None], steps) == exact).double().mean())
        for steps in (5, 20)
    ]
    assert 0.95 < agree[0] < agree[1]
    assert agree[1] > 0.998


def test_frequencies_are_the_law_in_more_dimensions():
    generator = torch.Generator().manual_seed(0)
    codes = TokenCodes(16, 4).vectors
    law = torch.rand(16, generator=generator, dtype=torch.float64).square()
    law = law / law.sum()
    noise = standard_normal(RowDraws(torch.arange(10_000), 1), 1, 4)[:, 0]
    found = flowed(noise, law.log().expand(len(noise), -1), codes, 20)
    seen = torch.bincount(found, minlength=16) / len(found)
    assert float((seen - law).abs().sum() / 2) < 0.03


def test_a_certain_token_is_reached_from_all_noise_and_symmetry_is_kept():
    noise = standard_normal(RowDraws(torch.arange(200), 0), 1, 2)[:, 0]
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    certain = torch.tensor([-torch.inf, 0, -torch.inf, -torch.inf]).expand(200, -1)
    assert (flowed(noise, certain, square, 10) == 1).all()
    even = torch.zeros(200, 4).log_softmax(dim=1)
    quarter = torch.stack([-noise[:, 1], noise[:, 0]], dim=1)
    turned = flowed(quarter, even, square, 10)
    assert torch.equal(turned, (flowed(noise, even, square, 10) + 1) % 4)


@pytest.mark.parametrize("dimension", [1, 3])
def test_sequences_are_a_function_of_the_noise_with_the_language_s_law(dimension):
    language = HMMLanguage(states=3, vocabulary=3, length=3, transition=1.0, emission=1.0)
    model, codes = OracleAutoregressive(language), TokenCodes(3, dimension)
    noise = standard_normal(RowDraws(torch.arange(6000), 0), 3, dimension)
    found = flow_to_sequences(model, noise, codes, 10)
    assert torch.equal(found[:9], flow_to_sequences(model, noise[:9], codes, 10))
    other = noise[:9].clone()
    other[:, 1:] = -other[:, 1:]
    assert torch.equal(found[:9, 0], flow_to_sequences(model, other, codes, 10)[:, 0])
    sentences = torch.cartesian_prod(*[torch.arange(3)] * 3)
    index = 3 ** torch.arange(2, -1, -1)
    seen = torch.bincount((found * index).sum(dim=1), minlength=27) / len(found)
    truth = language.log_prob(sentences).exp()
    assert float((seen - truth).abs().sum() / 2) < 0.03


class Sums(torch.nn.Module):
    """Causal: token t is decided by the sum of the vectors up to it."""

    def forward(self, vectors, known):
        total = vectors[..., 0].cumsum(dim=1)
        return torch.stack([-total, total], dim=2)


def test_a_second_jump_keeps_what_is_known_and_the_noise_behind_it():
    model = JumpModel(Sums(), TokenCodes(2, 1, vectors=[[-1.0], [1.0]]), 3)
    noise = torch.tensor([[[0.2], [-3.0], [1.0]]])
    once = jump(model, torch.full((1, 3), 2), noise, (0,))
    assert once.tokens.tolist() == [[1, 0, 0]]
    twice = jump(model, torch.full((1, 3), 2), noise, (0, 2))
    # Codes of the first two cancel, the third's noise decides.
    assert twice.tokens.tolist() == [[1, 0, 1]]
    assert twice.calls.tolist() == [2]
    assert twice.revealed_at.tolist() == [[1, 1, 2]]
    prompted = jump(model, torch.tensor([[0, 2, 2]]), noise, (0,))
    assert prompted.tokens.tolist() == [[0, 0, 0]]


def test_the_student_is_causal_and_a_row_does_not_depend_on_its_batch():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VectorTransformer(2, 5, width=8, depth=1, heads=2)
        torch.nn.init.normal_(network.head.weight)
    model = JumpModel(network, TokenCodes(5, 2), 4)
    noise = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    blank = torch.full((1, 4), 5)
    other = noise.clone()
    other[:, 2] += 1
    before, after = model(blank, noise), model(blank, other)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])
    generator = JumpGenerator(model, (0, 2))
    whole = generator(generator.masks(6), seed=1, steps=2)
    part = generator(generator.masks(2), seed=1, first=4, steps=2)
    assert torch.equal(whole.tokens[4:], part.tokens)


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match=r"expected 2 codes of 1 numbers, found shape \(3, 1\)"):
        TokenCodes(2, 1, vectors=[[0.0], [1.0], [2.0]])
    with pytest.raises(InputError, match="two tokens with the same"):
        TokenCodes(2, 1, vectors=[[0.0], [0.0]])
    model = JumpModel(Sums(), TokenCodes(2, 1), 3)
    with pytest.raises(InputError, match=r"rise from 0 and stay below 3, found \[0, 3\]"):
        JumpGenerator(model, (0, 3))
    with pytest.raises(InputError, match="at most 1 jumps, found 2"):
        JumpGenerator(model)(torch.full((1, 3), 2), seed=0, steps=2)
