import math

import pytest
import torch
from torch import nn

from kdlight.discrete.components import ComponentDenoiser
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.samplers import ancestral
from kdlight.errors import InputError
from kdlight.losses.masked_tokens import bound_by_count, bound_by_time
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.training.optim import Optimization
from modules.language.discrete.dimensional_correlations import DimensionalCorrelations


class TwoFaced(nn.Module):
    """Component k is sure of token k everywhere: the law of two tokens that always agree."""

    def forward(self, tokens, component):
        logits = nn.functional.one_hot(component, 2).float() * 60
        return logits[:, None].expand(-1, tokens.shape[1], -1)


def test_a_mixture_of_two_products_draws_tokens_that_agree_in_one_call():
    denoiser = ComponentDenoiser(TwoFaced(), vocabulary=2, length=2, components=2)
    start = torch.full((400, 2), 2)
    found = ancestral(denoiser, start, RowDraws(torch.arange(400), 0), steps=1)
    assert (found.calls == 1).all()
    assert (found.tokens[:, 0] == found.tokens[:, 1]).all()
    assert 150 < int(found.tokens[:, 0].sum()) < 250
    # Its marginals are those of a product that would agree half of the time.
    assert torch.allclose(denoiser(start[:1]).exp(), torch.full((1, 2, 2), 0.5))
    each = denoiser.component_log_probs(start[:1]).gather(
        3, torch.zeros(1, 2, 2, 1, dtype=torch.int64)
    )
    likelihood = each.sum(dim=(2, 3)).logsumexp(dim=1) - math.log(2)
    assert float(likelihood) == pytest.approx(-math.log(2))


def test_visible_tokens_are_certain_and_the_mask_has_no_probability():
    network = TokenTransformer(5, width=8, depth=1, heads=2)
    found = MaskedDenoiser(network, 5, 4)(torch.tensor([[5, 2, 5, 0]])).exp()
    assert torch.allclose(found[0, 0], torch.full((5,), 0.2))
    assert found[0, 1].tolist() == [0, 0, 1, 0, 0]
    assert torch.allclose(found.sum(dim=2), torch.ones(1, 4))


def test_rotary_positions_see_order_and_a_causal_network_no_future():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        both = TokenTransformer(5, width=16, depth=2, heads=2)
        causal = TokenTransformer(5, width=16, depth=2, heads=2, causal=True)
        for network in (both, causal):
            nn.init.normal_(network.head.weight)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0]])
    changed = tokens.clone()
    changed[0, 4] = 1
    assert torch.equal(causal(tokens)[:, :4], causal(changed)[:, :4])
    assert not torch.allclose(both(tokens)[:, :4], both(changed)[:, :4])
    swapped = tokens[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(both(tokens)[:, 5], both(swapped)[:, 5])
    with pytest.raises(InputError, match=r"twice the heads \(4\), found 10"):
        TokenTransformer(5, width=10, heads=2)


def test_bounds_by_hand():
    log_prob = torch.tensor([[-1.0, -2.0, 0.0, -3.0]])
    masked = torch.tensor([[True, True, False, False]])
    assert bound_by_count(log_prob, masked, 4).tolist() == [6.0]
    # Of three positions that are scored, two were masked.
    assert bound_by_count(log_prob, masked, torch.tensor([3])).tolist() == [4.5]
    assert bound_by_time(log_prob, masked, torch.tensor([0.25])).tolist() == [12.0]


def test_a_student_of_another_language_is_refused_and_weights_that_fit_are_copied():
    teacher = TokenGenerator(MaskedDenoiser(TokenTransformer(5, 8, 1, 2), 5, 4))
    nn.init.normal_(teacher.denoiser.network.head.weight)
    network = TokenTransformer(5, 8, 1, 2, components=3, length=4)
    made = DimensionalCorrelations(
        teacher, ComponentDenoiser(network, 5, 4, 3), Optimization(), iterations=1
    )
    assert torch.equal(network.head.weight, teacher.denoiser.network.head.weight)
    assert made.get_teacher() is teacher
    with pytest.raises(InputError, match=r"vocabulary and length \(5, 4\), found \(5, 6\)"):
        DimensionalCorrelations(
            teacher, ComponentDenoiser(network, 5, 6, 3), Optimization(), iterations=1
        )
