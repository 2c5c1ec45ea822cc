"""Targets of self-distillation through time, of an exact teacher over two tokens."""

import torch

from kdlight.discrete.denoiser import OracleDenoiser
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.time_targets import walked_log_probs

V, L = 3, 3


def test_a_position_keeps_the_law_of_the_call_that_revealed_it():
    language = HMMLanguage(states=3, vocabulary=V, length=L, transition=0.5, emission=0.5)
    denoiser = OracleDenoiser(language)
    seen = torch.tensor([[V, V, 1]])
    uniform = torch.full((1, 2, 2, L), 0.9)
    uniform[0, 0, 0, 0] = 0.1  # Position 0 in the first step, as a token; position 1 stays masked.
    found = walked_log_probs(denoiser, seen, torch.tensor([1.0]), 0.5, uniform)
    first = denoiser(seen)
    after = seen.clone()
    after[0, 0] = int((first[0, 0].exp().cumsum(0) <= 0.9).sum())
    assert torch.equal(found[0, 0], first[0, 0])
    assert torch.equal(found[0, 1], denoiser(after)[0, 1])


def test_a_token_a_call_leaves_nothing_to_learn_on_average():
    """The tower property: the mean of the targets is the exact teacher's own law."""
    language = HMMLanguage(states=3, vocabulary=V, length=2, transition=0.5, emission=0.5)
    denoiser, count = OracleDenoiser(language), 20_000
    seen = torch.full((count, 2), V)
    uniform = torch.rand(
        count, 2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    # One position a step: position 0 first in half of the rows.
    order = torch.rand(count, generator=torch.Generator().manual_seed(1)) < 0.5
    uniform[:, 0, 0] = torch.stack([order, ~order], dim=1).double()
    uniform[:, 1, 0] = 0.0
    found = walked_log_probs(denoiser, seen, torch.ones(count), 0.5, uniform).exp().mean(dim=0)
    assert torch.allclose(found, denoiser(seen[:1])[0].exp(), atol=0.01)
    alone = walked_log_probs(denoiser, seen, torch.ones(count), 0.5, uniform[:, :1])
    assert torch.equal(alone[0], denoiser(seen[:1])[0])
