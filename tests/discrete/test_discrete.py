"""A tiny language of 81 sequences, enumerated: what is exact is held to the truth."""

import itertools
import math

import pytest
import torch

from kdlight.discrete.categorical import draw
from kdlight.discrete.denoiser import OracleDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.masking import mask_by_count, mask_by_time
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.samplers import ancestral, confidence, expected_calls, first_hitting

V, L = 3, 4


@pytest.fixture(scope="module")
def language():
    return HMMLanguage(states=3, vocabulary=V, length=L, transition=1.0, emission=1.0)


@pytest.fixture(scope="module")
def sentences():
    return torch.tensor(list(itertools.product(range(V), repeat=L)))


@pytest.fixture(scope="module")
def truth(language, sentences):
    return language.log_prob(sentences).exp()


def test_the_tables_are_laws_and_probabilities_sum_to_one(language, truth):
    assert torch.allclose(language.initial @ language.transitions, language.initial, atol=1e-14)
    assert float(truth.sum()) == pytest.approx(1, abs=1e-12)
    assert float(language.bigram(2).sum()) == pytest.approx(1, abs=1e-12)


def test_log_prob_of_visible_tokens_is_the_sum_over_the_masked(language, sentences, truth):
    seen = torch.tensor([[V, 1, V, 0]])
    agree = (sentences[:, 1] == 1) & (sentences[:, 3] == 0)
    assert float(language.log_prob(seen).exp()) == pytest.approx(
        float(truth[agree].sum()), abs=1e-15
    )


def enumerated(sentences, truth, seen):
    """p(x_l | seen) by summing over all sentences that agree."""
    visible = seen != V
    agree = ((sentences == seen) | ~visible).all(dim=1)
    weight = truth * agree
    one_hot = torch.nn.functional.one_hot(sentences, V).double()
    return (weight[:, None, None] * one_hot).sum(dim=0) / weight.sum()


def test_conditionals_equal_enumeration(language, sentences, truth):
    for row in ([V] * L, [V, 1, V, 0], [2, V, V, 1], [0, 1, 2, 1]):
        seen = torch.tensor(row)
        found = language.conditionals(seen[None])[0]
        assert torch.allclose(found, enumerated(sentences, truth, seen), atol=1e-14)


def law_of(start, steps_of):
    """The exact law over sentences of a sampler whose choices are enumerated by ``steps_of``."""
    law = {tuple(start): 1.0}
    for expand in steps_of:
        following: dict[tuple[int, ...], float] = {}
        for state, mass in law.items():
            for after, share in expand(state):
                following[after] = following.get(after, 0.0) + mass * share
        law = following
    return law


@pytest.fixture(scope="module")
def table(language):
    """p(x_l | seen) of every partly masked sentence."""
    states = list(itertools.product(range(V + 1), repeat=L))
    return dict(zip(states, language.conditionals(torch.tensor(states)).tolist(), strict=True))


def reveal(table, state, places):
    """Outcomes of drawing ``places`` of ``state`` independently from one call."""
    for values in itertools.product(range(V), repeat=len(places)):
        after = list(state)
        share = 1.0
        for place, value in zip(places, values, strict=True):
            after[place] = value
            share *= table[state][place][value]
        yield tuple(after), share


def hidden(state):
    return [place for place, token in enumerate(state) if token == V]


def divergence(sentences, truth, law):
    found = torch.tensor([law[tuple(row)] for row in sentences.tolist()], dtype=torch.float64)
    return float((truth * (truth / found).log()).sum())


def test_one_token_a_call_is_exact(table, sentences, truth):
    def step(state):
        places = hidden(state)
        for place in places:
            for after, share in reveal(table, state, [place]):
                yield after, share / len(places)

    law = law_of([V] * L, [step] * L)
    found = torch.tensor([law[tuple(row)] for row in sentences.tolist()], dtype=torch.float64)
    assert torch.allclose(found, truth, atol=1e-15)


def test_ancestral_steps_converge_as_their_square(language, table, sentences, truth):
    def step(left):
        def expand(state):
            places = hidden(state)
            for size in range(len(places) + 1):
                for chosen in itertools.combinations(places, size):
                    odds = (1 / left) ** size * (1 - 1 / left) ** (len(places) - size)
                    if odds > 0:
                        for after, share in reveal(table, state, list(chosen)):
                            yield after, odds * share

        return expand

    found = [
        divergence(sentences, truth, law_of([V] * L, [step(n) for n in range(steps, 0, -1)]))
        for steps in (1, 2, 4)
    ]
    unigram = language.initial @ language.emissions
    marginal = -(unigram * unigram.log()).sum() * L
    entropy = -(truth * truth.log()).sum()
    assert found[0] == pytest.approx(float(marginal - entropy), rel=1e-9)  # total correlation
    assert found[1] / found[2] == pytest.approx(4, rel=0.15)


def test_the_elbo_by_count_is_the_likelihood(language, sentences):
    # Zheng et al.: sum over n of 1/n, mean over the sets of n masks, of -log p at the masks.
    rows = sentences[::7]
    total = torch.zeros(len(rows), dtype=torch.float64)
    for size in range(1, L + 1):
        for places in itertools.combinations(range(L), size):
            seen = rows.clone()
            seen[:, list(places)] = V
            found = language.conditionals(seen).gather(2, rows[..., None])[..., 0].log()
            total -= found[:, list(places)].sum(dim=1) / size / math.comb(L, size)
    assert torch.allclose(total, -language.log_prob(rows), atol=1e-13)


def chi_square(sentences, truth, tokens):
    index = (tokens * V ** torch.arange(L - 1, -1, -1)).sum(dim=1)
    seen = torch.bincount(index, minlength=len(sentences)).double()
    expected = truth * len(tokens)
    statistic = ((seen - expected).square() / expected).sum()
    degrees = len(sentences) - 1
    return float((statistic - degrees) / math.sqrt(2 * degrees))


def test_samples_of_first_hitting_have_the_languages_law(language, sentences, truth):
    count = 20_000
    start = torch.full((count, L), V)
    found = first_hitting(OracleDenoiser(language), start, RowDraws(torch.arange(count), 0))
    assert abs(chi_square(sentences, truth, found.tokens)) < 4
    assert (found.calls == L).all()
    assert torch.equal(
        found.revealed_at.sort(dim=1).values, torch.arange(1, L + 1).expand(count, L)
    )
    # One ancestral step draws tokens independently, and the test sees it.
    once = ancestral(OracleDenoiser(language), start, RowDraws(torch.arange(count), 0), 1)
    assert chi_square(sentences, truth, once.tokens) > 10


@pytest.mark.parametrize("sampler", ["ancestral", "first_hitting", "confidence"])
def test_a_row_is_a_function_of_its_seed_and_a_prompt_stays(language, sampler):
    denoiser = OracleDenoiser(language)

    def sample(rows, start):
        draws = RowDraws(rows, seed=7)
        if sampler == "first_hitting":
            return first_hitting(denoiser, start, draws, together=2)
        return {"ancestral": ancestral, "confidence": confidence}[sampler](
            denoiser, start, draws, 3
        )

    start = torch.full((6, L), V)
    start[:, 1] = 2
    whole = sample(torch.arange(6), start)
    assert (whole.tokens[:, 1] == 2).all()
    assert (whole.tokens < V).all()
    assert (whole.revealed_at[:, 1] == 0).all()
    for rows in ([4], [5, 0, 2]):
        part = sample(torch.tensor(rows), start[: len(rows)])
        assert torch.equal(part.tokens, whole.tokens[rows])
        assert torch.equal(part.calls, whole.calls[rows])


def test_ancestral_calls_are_those_expected():
    assert expected_calls(1024, 1024) == pytest.approx(647.4755, abs=1e-4)
    assert expected_calls(5, 1) == 1
    language = HMMLanguage(states=1, vocabulary=2, length=64)
    count = 100
    start = torch.full((count, 64), 2)
    found = ancestral(OracleDenoiser(language), start, RowDraws(torch.arange(count), 1), 64)
    assert float(found.calls.double().mean()) == pytest.approx(expected_calls(64, 64), abs=1.0)


def test_draws_are_uniform_independent_and_of_53_bits():
    draws = RowDraws(torch.arange(1000), seed=3)
    first, second = draws.uniform(50), draws.uniform(50)
    for values in (first, second, first[:, :-1] - first[:, 1:]):
        assert not torch.equal(values[:-1], values[1:])
    assert float(first.mean()) == pytest.approx(0.5, abs=0.006)
    assert float(first.var()) == pytest.approx(1 / 12, abs=0.002)
    for other in (second, first.roll(1, 0), first.roll(1, 1)):
        both = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))
        assert abs(float(both[0, 1])) < 0.02
    assert bool(((first * 2**53) % 2 == 1).any())  # float32 would leave the low bits empty
    assert not torch.equal(first, RowDraws(torch.arange(1000), seed=4).uniform(50))


def cut_law(law, cut):
    """What Gumbel draws give whose numbers stop at ``cut`` (closed form; ``law`` ascending)."""
    c = math.exp(-cut)
    total, found = 0.0, []
    for i, mass in enumerate(law):
        rest = sum(law[i:])
        below = math.exp(-rest * c / law[i - 1]) if i else 0.0
        inside = math.exp(-rest * c / mass) - below
        total += math.exp((len(law) - i) * c) * inside / rest
        found.append(mass * total)
    return torch.tensor(found)


def test_cut_gumbel_draws_lose_rare_classes_and_ours_do_not():
    law = [0.02, 0.08, 0.2, 0.3, 0.4]
    count, cut = 100_000, 2.0
    uniform = RowDraws(torch.arange(count), 0).uniform(6)
    gumbels = -torch.log(-torch.log(uniform[:, :5] * math.exp(-math.exp(-cut))))
    cut_draws = (torch.tensor(law).double().log() + gumbels).argmax(dim=1)
    seen = torch.bincount(cut_draws, minlength=5) / count
    assert torch.allclose(
        cut_law(law, cut), torch.tensor([4.53e-5, 0.026724, 0.17545, 0.32300, 0.47478]), atol=1e-5
    )
    assert torch.allclose(seen, cut_law(law, cut), atol=5e-3)
    ours = draw(torch.tensor(law).double().log().expand(count, -1), uniform[:, 5])
    assert torch.allclose(torch.bincount(ours, minlength=5) / count, torch.tensor(law), atol=5e-3)


def test_draws_follow_the_law_to_its_rarest_class():
    law = torch.tensor([0.0, 1e-9, 0.02, 0.08, 0.2, 0.3, 0.4 - 1e-9], dtype=torch.float64)
    edges = law.cumsum(0)
    # One number just inside each class: no class is merged with another, none of mass 0 drawn.
    inside = torch.cat([edges[:-1], torch.zeros(1)])[[0, 1, 2, 3, 4, 5]]
    assert draw(law.log().expand(6, -1), inside).tolist() == [1, 2, 3, 4, 5, 6]
    assert int(draw(law.log(), torch.tensor(0.0))) == 1
    assert int(draw(law.log(), torch.tensor(1 - 2.0**-53, dtype=torch.float64))) == 6
    count = 200_000
    uniform = RowDraws(torch.arange(count), 5).uniform(1)[:, 0]
    seen = torch.bincount(draw(law.log().expand(count, -1), uniform), minlength=7) / count
    assert torch.allclose(seen.double(), law, atol=4e-3)


def test_masks_by_count_and_by_time():
    tokens = torch.arange(12).reshape(2, 6) % 4
    uniform = RowDraws(torch.arange(2), 0).uniform(6)
    masked = mask_by_count(tokens, torch.tensor([0, 4]), uniform, 9)
    assert (masked == 9).sum(dim=1).tolist() == [0, 4]
    assert torch.equal(masked[masked != 9], tokens[masked != 9])
    assert torch.equal(
        mask_by_time(tokens, torch.tensor([0.0, 1.0]), uniform, 9)[1], torch.full((6,), 9)
    )
