import itertools

import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import chisquare

from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
from kdlight.selection.difference import difference, drawn, softened, top
from kdlight.selection.robust import robust_law, without_replacement
from kdlight.selection.scores import row_scores


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_highest_half_is_the_optimum_of_the_linear_programme():
    scores = torch.randn(20, generator=generator()).double()
    kept = top(scores, 0.5)
    assert len(kept) == 10
    assert torch.equal(kept, kept.sort().values)
    bound = 2 / 20  # a law of at most 1 / share times that of the data
    found = linprog(-scores.numpy(), A_eq=[[1.0] * 20], b_eq=[1.0], bounds=[(0, bound)] * 20)
    assert float(scores[kept].mean()) == pytest.approx(-found.fun, abs=1e-12)
    assert torch.equal(top(scores + 7.5, 0.5), kept)
    assert top(torch.tensor([1.0, 1, 1, 0]), 0.5).tolist() == [0, 1]


def test_a_reference_that_is_the_data_and_beta_1_give_the_teacher():
    data, teacher = (torch.rand(50, generator=generator(seed)).double() for seed in (1, 2))
    data, teacher = data / data.sum(), teacher / teacher.sum()
    scores = difference(-teacher.log(), -data.log())
    weighted = data * scores.exp()
    torch.testing.assert_close(weighted / weighted.sum(), teacher, atol=2e-16, rtol=0)
    # Rows that were drawn from the data bring its weight with them.
    rows = torch.arange(50).repeat(3)
    torch.testing.assert_close(softened(scores[rows], 1.0)[:50] * 3, softened(scores, 1.0))


def test_the_soft_law_is_the_optimum_and_draws_follow_it():
    scores = torch.randn(200, generator=generator(3)).double()
    data = torch.full((200,), 1 / 200, dtype=torch.float64)

    def objective(q: torch.Tensor) -> float:
        return float((q * scores).sum() - 0.7 * (q * (q / data).log()).sum())

    law = softened(scores, 0.7)
    for seed in range(5):
        other = law * torch.exp(0.1 * torch.randn(200, generator=generator(seed)))
        assert objective(other / other.sum()) < objective(law)
    counts = torch.bincount(drawn(law, 40_000, generator(4)), minlength=200)
    assert chisquare(counts.numpy(), (law * 40_000).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("count", "wrong"), [(6, 1), (7, 2), (8, 3)])
def test_the_robust_law_is_the_games_value(count, wrong):
    gains = torch.rand(count, generator=generator(count)).double() + 0.05
    # max v: v <= sum over i outside S of q_i g_i, for every S.
    rows = []
    for errs in itertools.combinations(range(count), wrong):
        rows.append([-float(g) if i not in errs else 0.0 for i, g in enumerate(gains)] + [1.0])
    found = linprog(
        [0.0] * count + [-1.0],
        A_ub=rows,
        b_ub=[0.0] * len(rows),
        A_eq=[[1.0] * count + [0.0]],
        b_eq=[1.0],
        bounds=[(0, 1)] * count + [(None, None)],
    )
    law = robust_law(gains, wrong)
    assert law.value == pytest.approx(-found.fun, abs=1e-9)
    assert law.k >= wrong + 1
    flat = law.probabilities * gains
    assert float(flat[flat > 0].std()) < 1e-12


def test_corners_of_the_robust_law():
    gains = torch.tensor([0.2, 0.9, 0.5]).double()
    assert robust_law(gains, 0).probabilities.tolist() == [0, 1, 0]
    even = robust_law(torch.full((5,), 0.4), 1).probabilities
    torch.testing.assert_close(even, torch.full((5,), 0.2).double())
    values = [robust_law(torch.rand(9, generator=generator()).double(), m).value for m in range(5)]
    assert values == sorted(values, reverse=True)
    assert robust_law(torch.zeros(4), 1).probabilities.isfinite().all()


def test_draws_without_replacement():
    law = torch.tensor([0.5, 0.3, 0.2, 0.0]).double()
    firsts = torch.cat([without_replacement(law, 1, generator(seed)) for seed in range(3000)])
    counts = torch.bincount(firsts, minlength=4)
    assert chisquare(counts[:3].numpy(), (law[:3] * 3000).numpy()).pvalue > 1e-3
    assert counts[3] == 0
    assert without_replacement(law, 4, generator()).tolist() == [0, 1, 2, 3]


def test_rows_are_scored_without_their_padding():
    model = OracleAutoregressive(HMMLanguage(3, 4, 5, seed=0, transition=0.5, emission=0.5))
    tokens = torch.tensor([[0, 1, 2, 3, 0], [1, 1, 0, 0, 0]])
    real = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = row_scores(model, tokens, real)
    expected = -model.language.log_prob(tokens[1:, :2])
    torch.testing.assert_close(found.nll[1:], expected, rtol=1e-6, atol=1e-6)
    law = model(tokens[:1])[0].exp().sort(descending=True).values
    assert float(found.margin[0]) == pytest.approx(float((law[:, 0] - law[:, 1]).mean()), abs=1e-9)
