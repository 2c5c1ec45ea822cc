"""Energies, held to a tiny language of 243 sentences that is enumerated."""

import itertools
import math

import pytest
import torch

from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.denoiser import OracleDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.energy import AutoregressiveEnergy, log_partition
from kdlight.discrete.energy_sampler import EnergyGenerator, ancestral_by_energy
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.samplers import ancestral
from kdlight.errors import InputError
from kdlight.losses.energies import noise_contrastive

V, L = 3, 5
SENTENCES = torch.tensor(list(itertools.product(range(V), repeat=L)))
BLANK = torch.full((1, L), V)


@pytest.fixture(scope="module")
def language():
    return HMMLanguage(states=3, vocabulary=V, length=L, transition=0.5, emission=0.5)


@pytest.fixture(scope="module")
def exact(language):
    return AutoregressiveEnergy(OracleDenoiser(language), OracleAutoregressive(language))


def laws(denoiser, seen):
    """Of all sentences that agree with ``seen`` (L,): log mu and log of mu exp(-E)."""
    visible = seen != V
    agree = SENTENCES[((seen == SENTENCES) | ~visible).all(dim=1)]
    log_probs = denoiser(seen[None])[0]
    proposal = log_probs[torch.arange(L), agree].sum(dim=1)
    energy = denoiser.energy(agree, seen.expand(len(agree), -1), proposal)
    return agree, proposal, proposal - energy


def mask_sets():
    for masked in itertools.product([False, True], repeat=L):
        if any(masked):
            yield torch.tensor(masked)


def test_an_exact_autoregressive_energy_gives_the_exact_law_of_the_masked(language, exact):
    for masked in mask_sets():
        seen = SENTENCES[101].masked_fill(masked, V)
        agree, _, joint = laws(exact, seen)
        truth = language.log_prob(agree) - language.log_prob(seen[None])
        assert torch.allclose(joint - joint.logsumexp(dim=0), truth, atol=1e-12)


def test_carried_over_it_is_normalised_and_worse_than_no_energy(language):
    carried = AutoregressiveEnergy(
        OracleDenoiser(language), OracleAutoregressive(language), carry_over=True
    )
    seen = torch.tensor([V, V, V, 2, 1])
    agree, proposal, joint = laws(carried, seen)
    assert float(joint.exp().sum()) == pytest.approx(1, abs=1e-12)
    truth = language.log_prob(agree) - language.log_prob(seen[None])
    divergence = [float((truth.exp() * (truth - law)).sum()) for law in (proposal, joint)]
    assert divergence[1] > divergence[0] > 0


def test_one_step_with_many_candidates_tends_to_the_truth(language, exact):
    truth = language.log_prob(SENTENCES).exp()
    index = V ** torch.arange(L - 1, -1, -1)
    distances = []
    for candidates in (1, 4, 32):
        count = 20_000
        found = ancestral_by_energy(
            exact, BLANK.expand(count, -1), RowDraws(torch.arange(count), 0), 1, candidates
        )
        seen = torch.bincount((found.tokens * index).sum(dim=1), minlength=V**L) / count
        distances.append(float((seen - truth).abs().sum() / 2))
        expected = 1 if candidates == 1 else 1 + candidates
        assert (found.calls == expected).all()
    true = torch.bincount(
        torch.multinomial(truth, 20_000, True, generator=torch.Generator().manual_seed(0)),
        minlength=V**L,
    )
    floor = float((true / 20_000 - truth).abs().sum() / 2)
    assert distances[0] > 2 * distances[1] > 2 * distances[2]
    assert distances[2] < 1.3 * floor


def test_one_candidate_and_no_window_are_the_plain_sampler_to_the_bit(exact):
    start = BLANK.expand(50, -1)
    plain = ancestral(exact, start, RowDraws(torch.arange(50), 3), 3)
    for candidates, window in ((1, 1.0), (8, 0.0)):
        draws = RowDraws(torch.arange(50), 3)
        found = ancestral_by_energy(exact, start, draws, 3, candidates, window)
        assert torch.equal(found.tokens, plain.tokens)
        assert torch.equal(found.calls, plain.calls)


def test_a_row_does_not_depend_on_its_batch_and_a_prompt_stays(exact):
    generator = EnergyGenerator(exact, candidates=4, steps=(2,))
    start = BLANK.repeat(9, 1)
    start[:, 1] = 2
    whole = generator(start, seed=1)
    assert torch.equal(generator(start[:4], seed=1, first=5).tokens, whole.tokens[5:])
    assert (whole.tokens[:, 1] == 2).all()
    with pytest.raises(InputError, match=r"window in \[0, 1\], found 8 and 2"):
        EnergyGenerator(exact, window=2)


def test_contrast_is_least_at_the_log_ratio():
    generator = torch.Generator().manual_seed(0)
    truth, proposal = torch.rand(2, 12, generator=generator, dtype=torch.float64)
    truth, proposal = truth / truth.sum(), proposal / proposal.sum()
    energy = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([energy], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = (truth * noise_contrastive(energy, torch.full_like(energy, 50.0))).sum() + (
            proposal * noise_contrastive(torch.full_like(energy, -50.0), energy)
        ).sum()
        total.backward()
        return total

    optimizer.step(loss)
    assert torch.allclose(energy, (proposal / truth).log(), atol=1e-3)
    middle = (truth + proposal) / 2
    divergence = (
        (truth * (truth / middle).log()).sum() + (proposal * (proposal / middle).log()).sum()
    ) / 2
    assert float(loss().detach()) == pytest.approx(
        2 * math.log(2) - 2 * float(divergence), abs=1e-6
    )


def test_log_partition_is_bounded_from_both_sides():
    generator = torch.Generator().manual_seed(0)
    proposal = torch.full((8,), 1 / 8, dtype=torch.float64)
    energy = torch.randn(8, generator=generator, dtype=torch.float64)
    truth = float((proposal.log() - energy).logsumexp(dim=0))
    means = []
    for count in (4, 16):
        drawn = torch.multinomial(proposal, 40_000 * count, True, generator=generator)
        lower, upper = log_partition(energy[drawn].reshape(-1, count))
        means.append((float(lower.mean()), float(upper.mean())))
    assert means[0][0] < means[1][0] < truth < means[1][1] < means[0][1]
    assert means[1][1] - means[1][0] < 0.1
