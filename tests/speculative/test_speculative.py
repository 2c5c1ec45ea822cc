import pytest
import torch
from scipy.stats import chi2

from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.speculative.decoding import speculate
from kdlight.speculative.verification import acceptance, expected_block, residual, verify

V, LENGTH, COUNT = 4, 5, 8000


def model(seed: int, vocabulary: int = V) -> OracleAutoregressive:
    language = HMMLanguage(3, vocabulary, LENGTH, seed, transition=0.5, emission=0.5)
    return OracleAutoregressive(language)


@pytest.fixture(scope="module")
def sample():
    start = torch.zeros(COUNT, 0, dtype=torch.int64)
    rows = RowDraws(torch.arange(COUNT), seed=0)
    return speculate(model(0), model(1), start, LENGTH, rows, block=2)


def test_the_law_is_the_targets_by_chi_square(sample):
    every = torch.cartesian_prod(*[torch.arange(V)] * 4)
    language = model(0).language
    expected = language.log_prob(every).exp() * COUNT
    places = V ** torch.arange(3, -1, -1)
    found = torch.bincount((sample.tokens[:, :4] * places).sum(1), minlength=V**4).double()
    # Cells of fewer than five are one.
    few = expected < 5
    expected = torch.cat([expected[~few], expected[few].sum()[None]])
    found = torch.cat([found[~few], found[few].sum()[None]])
    statistic = ((found - expected).square() / expected).sum()
    assert chi2.sf(float(statistic), len(expected) - 1) > 1e-3
    assert expected.sum() == pytest.approx(COUNT)


def test_the_draft_alone_has_another_law(sample):
    drafts = model(1).language.log_prob(sample.tokens).mean()
    own = model(0).language.log_prob(sample.tokens).mean()
    assert own > drafts + 0.5


def test_acceptance_is_the_overlap_of_the_laws():
    log_p = torch.tensor([2.0, 1, 0, -1], dtype=torch.float64).log_softmax(0)
    log_q = torch.tensor([0.0, 1, 0, 0.5], dtype=torch.float64).log_softmax(0)
    rate = float(acceptance(log_p, log_q))
    assert rate == pytest.approx(0.513145503462, abs=1e-11)
    left = residual(log_p, log_q).exp()
    assert float(left.sum()) == pytest.approx(1 - rate, abs=1e-12)
    rows = 40_000
    uniform = RowDraws(torch.arange(rows), seed=1).uniform(3)
    drafted = torch.searchsorted(log_q.exp().cumsum(0), uniform[:, 0], right=True)
    target, draft = log_p.expand(rows, 2, V), log_q.expand(rows, 1, V)
    kept, behind = verify(target, draft, drafted[:, None], uniform[:, 1:2], uniform[:, 2])
    error = (rate * (1 - rate) / rows) ** 0.5
    assert float(kept.double().mean()) == pytest.approx(rate, abs=4 * error)
    first = torch.where(kept == 1, drafted, behind)
    frequency = torch.bincount(first, minlength=V).double() / rows
    torch.testing.assert_close(frequency, log_p.exp(), atol=0.01, rtol=0)


def test_blocks_of_independent_acceptances():
    for rate, length, expected in (
        (0.5, 3, 1.875),
        (0.8, 5, 3.68928),
        (0.9, 7, 5.695328),
        (1.0, 4, 5.0),
    ):
        assert expected_block(rate, length) == pytest.approx(expected, abs=1e-6)


def test_a_draft_that_is_the_target_is_always_kept():
    start = torch.zeros(50, 0, dtype=torch.int64)
    rows = RowDraws(torch.arange(50), seed=0)
    found = speculate(model(0), model(0), start, LENGTH, rows, block=2)
    assert found.acceptance_rate == 1
    assert found.block_efficiency == 3
    assert found.calls.tolist() == [2] * 50


def test_prompts_stay_and_a_row_does_not_depend_on_its_batch():
    prompt = torch.tensor([[1, 2], [3, 0], [0, 0]])
    whole = speculate(model(0), model(1), prompt, LENGTH, RowDraws(torch.arange(3), 5), block=2)
    assert torch.equal(whole.tokens[:, :2], prompt)
    alone = speculate(model(0), model(1), prompt[2:], LENGTH, RowDraws(torch.tensor([2]), 5), 2)
    assert torch.equal(whole.tokens[2:], alone.tokens)


def test_what_does_not_fit_is_named():
    start, draws = torch.zeros(1, 0, dtype=torch.int64), RowDraws(torch.arange(1), 0)
    with pytest.raises(InputError, match="expected the target's vocabulary of 4 tokens, found 5"):
        speculate(model(0), model(0, 5), start, LENGTH, draws)
    with pytest.raises(InputError, match="block: expected at least 1, found 0"):
        speculate(model(0), model(0), start, LENGTH, draws, block=0)
