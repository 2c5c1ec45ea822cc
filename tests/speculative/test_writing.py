"""Writing with a draft: the law, the rows, the calls."""

import itertools

import pytest
import torch
from scipy.stats import chi2

from kdlight.discrete.autoregressive import (
    AutoregressiveGenerator,
    AutoregressiveModel,
    OracleAutoregressive,
)
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.speculative.drafters import LookupDrafter, ModelDrafter, NoDrafter, law
from kdlight.speculative.drafts import Chain, Tree
from kdlight.speculative.sessions import MemorySession, PlainSession, session_of
from kdlight.speculative.trigram import TrigramDrafter
from kdlight.speculative.writing import DraftedGenerator

V, LENGTH = 4, 5


def chi_square(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The p-value of counts; cells of fewer than five expected are one."""
    few = expected < 5
    if bool(few.any()):
        expected = torch.cat([expected[~few], expected[few].sum()[None]])
        found = torch.cat([found[~few], found[few].sum()[None]])
    statistic = ((found - expected).square() / expected).sum()
    return float(chi2.sf(float(statistic), len(expected) - 1))


def oracle(seed: int) -> OracleAutoregressive:
    return OracleAutoregressive(HMMLanguage(3, V, LENGTH, seed, transition=0.5, emission=0.5))


def network(kind: str, seed: int, vocabulary: int = 7) -> AutoregressiveModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "own":
            made = TokenTransformer(vocabulary, width=16, depth=2, heads=2, causal=True)
        else:
            shape = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1}
            if kind == "gpt2":
                shape |= {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 32}
            else:
                shape |= {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
                shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
            made = CausalLM(shape | {"model_type": kind}, vocabulary)
        for weight in made.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    return AutoregressiveModel(made, vocabulary, 12, beginning=0).eval()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("kind", ["tree", "chain"])
def test_one_token_has_the_targets_law_whatever_the_draft(kind, temperature):
    count = 4000
    log_p = law(torch.tensor([2.0, 1.0, 0.0, -1.0, 0.3]), temperature)
    log_q = law(torch.tensor([0.0, 1.0, 0.0, 0.5, -2.0]), 1.0)
    uniform = torch.rand(count, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    drafted = torch.searchsorted(log_q.exp().cumsum(0), uniform[:, 2, 0], right=True).tolist()
    counts = torch.zeros(5, dtype=torch.float64)
    for token, (own, accept, _) in zip(drafted, uniform, strict=True):
        draft = Tree([1, 0], [-1, -1]) if kind == "tree" else Chain([token], log_q[None])
        verdict = draft.judge(log_p.expand(len(draft.tokens) + 1, 5), own, accept)
        counts[draft.tokens[verdict.path[0]] if verdict.path else verdict.behind] += 1
    assert chi_square(counts, log_p.exp() * count) > 1e-3


def test_a_residual_that_is_the_law_itself_fails_at_once():
    log_p, log_q = law(torch.tensor([2.0, 1, 0, -1]), 1.0), law(torch.tensor([0.0, 1, 0, 2]), 1.0)
    kept = torch.minimum(log_p, log_q).exp()
    wrong = kept + (1 - kept.sum()) * log_p.exp()
    assert chi_square(wrong * 40_000, log_p.exp() * 40_000) < 1e-9


def test_children_of_a_node_are_kept_as_one_after_the_other():
    # Accept c with p[c], else the next with p of what is left: the same as one draw of the target.
    p = torch.tensor([0.25, 0.19, 0.36, 0.2], dtype=torch.float64)
    second = (1 - p[0]) * p[1] / (1 - p[0])
    assert float(p[0] + second) == pytest.approx(0.44, abs=1e-12)
    tree = Tree([0, 1], [-1, -1])
    uniform = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)).double()
    log_p = p.log().expand(3, 4)
    kept = [len(tree.judge(log_p, row, row).path) for row in uniform]
    assert sum(kept) / len(kept) == pytest.approx(0.44, abs=0.03)


def test_one_sample_a_node_is_exact_and_one_a_row_is_not():
    # The release lets every candidate row draw for itself and falls back on the likeliest token.
    p = torch.tensor([0.425, 0.25, 0.19, 0.135], dtype=torch.float64)
    kept_1, kept_2 = float(p[1]), float((1 - p[1]) * p[2])
    assert 1 - kept_1 - kept_2 > float(p[0]) + 0.15


@pytest.mark.parametrize("kind", ["own", "llama", "gpt2"])
def test_a_memory_gives_the_logits_of_the_whole_row(kind):
    model = network(kind, 0)
    row = [3, 1, 4, 1, 5]
    whole = model.network(torch.tensor([[0, *row]]))[0]
    session, beginning = session_of(model)
    assert isinstance(session, MemorySession)
    parts = [session.read([beginning, *row[:2]]), session.read(row[2:3]), session.read(row[3:])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=1e-5)
    # A tree: two continuations of the third token, one of which goes on.
    session.keep(range(4))
    tree = session.read([6, 2, 5], [-1, -1, 1])
    for place, path in enumerate(([6], [2], [2, 5])):
        alone = model.network(torch.tensor([[0, *row[:3], *path]]))[0, -1]
        torch.testing.assert_close(tree[place], alone, atol=1e-5, rtol=1e-5)
    # What is kept of it is a row like any other.
    session.keep([0, 1, 2, 3, 5, 6])
    assert session.count == 6
    further = session.read([1])[0]
    alone = model.network(torch.tensor([[0, *row[:3], 2, 5, 1]]))[0, -1]
    torch.testing.assert_close(further, alone, atol=1e-5, rtol=1e-5)


def test_a_model_without_memory_is_read_by_whole_rows():
    session, beginning = session_of(oracle(0))
    assert isinstance(session, PlainSession)
    logits = session.read([beginning, 1, 2])
    torch.testing.assert_close(logits[-1], oracle(0).following(torch.tensor([[1, 2]]))[0])
    tree = session.read([0, 3, 1], [-1, -1, 1])
    torch.testing.assert_close(tree[2], oracle(0).following(torch.tensor([[1, 2, 3, 1]]))[0])
    session.keep([0, 1, 2, 4, 5])
    assert session.row[1:] == [1, 2, 3, 1]


@pytest.mark.parametrize("kind", ["own", "llama"])
def test_rows_of_drafts_that_draw_nothing_are_those_without_one(kind):
    model = network(kind, 0)
    start = torch.full((6, 12), 7)
    start[:, :2] = torch.tensor([3, 1])
    plain = AutoregressiveGenerator(model)(start, seed=4)
    corpus = TrigramDrafter()
    corpus.read(plain.tokens.tolist())
    for drafter in (NoDrafter(), LookupDrafter(), TrigramDrafter(), corpus):
        found = DraftedGenerator(model, drafter)(start, seed=4)
        assert torch.equal(found.tokens, plain.tokens)
        assert bool((found.calls <= plain.calls).all())
    assert found.calls.sum() < plain.calls.sum()  # of a table that has read these very rows
    assert torch.equal(found.revealed_at.max(dim=1).values, found.calls)
    assert (found.revealed_at[:, :2] == 0).all()


def test_the_least_temperature_takes_the_likeliest():
    assert law(torch.tensor([2.0, 1.0, -3.0]), 5e-324).exp().tolist() == [1.0, 0.0, 0.0]


def tempered_law(temperature: float) -> torch.Tensor:
    """Of the first four tokens at a temperature, in the order of their numbers."""
    probability = torch.ones(1, dtype=torch.float64)
    for length in range(4):
        rows = torch.tensor(list(itertools.product(range(V), repeat=length))).long()
        following = law(oracle(0).following(rows), temperature).exp()
        probability = (probability[:, None] * following).flatten()
    return probability


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("kind", ["model", "table"])
def test_the_joint_law_at_any_temperature(kind, temperature):
    rows = 1200
    table = TrigramDrafter(nodes=6)
    table.read(oracle(1).language.draw(200, torch.Generator().manual_seed(0)).tolist())
    drafter = table if kind == "table" else ModelDrafter(oracle(1), 2, temperature)
    written = DraftedGenerator(oracle(0), drafter, temperature)
    tokens = written(torch.full((rows, LENGTH), V), seed=0).tokens[:, :4]
    places = V ** torch.arange(3, -1, -1)
    found = torch.bincount((tokens * places).sum(1), minlength=V**4).double()
    assert chi_square(found, tempered_law(temperature) * rows) > 1e-3
    assert written.account.tokens == LENGTH * rows
    assert written.account.calls < LENGTH * rows


@pytest.mark.parametrize("drafter", [NoDrafter, LookupDrafter, TrigramDrafter])
def test_greedy_rows_do_not_depend_on_the_draft(drafter):
    model = network("own", 0)
    start = torch.full((2, 12), 7)
    greedy = DraftedGenerator(model, drafter(), temperature=0.0)(start, seed=9).tokens
    drafted = DraftedGenerator(model, ModelDrafter(network("own", 1), temperature=0.0), 0.0)
    assert torch.equal(drafted(start, seed=3).tokens, greedy)
    row = greedy[0].tolist()
    assert row[3] == int(model.following(greedy[:1, :3]).argmax())


def test_a_draft_that_is_the_target_is_always_kept():
    model = network("own", 0)
    written = DraftedGenerator(model, ModelDrafter(model, block=3))
    calls = written(torch.full((4, 12), 7), seed=0).calls
    assert calls.tolist() == [3] * 4
    assert written.account.kept == written.account.tried == 36


def test_a_row_ends_with_its_end_and_does_not_depend_on_its_batch():
    model = network("own", 2)
    start = torch.full((8, 12), 7)
    whole = DraftedGenerator(model, LookupDrafter(), end=1)(start, seed=0)
    for row in whole.tokens.tolist():
        if 1 in row:
            assert set(row[row.index(1) :]) == {1}
    alone = DraftedGenerator(model, LookupDrafter(), end=1)(start[:1], seed=0, first=5)
    assert torch.equal(alone.tokens[0], whole.tokens[5])
    assert any(1 in row for row in whole.tokens.tolist())


def test_the_table_becomes_the_chain_and_is_restored():
    # An order-2 chain: what follows depends on the last two tokens alone.
    generator = torch.Generator().manual_seed(0)
    chain = torch.rand(3, 3, 3, generator=generator).double()
    chain = chain / chain.sum(-1, keepdim=True)
    row = [0, 1]
    for _ in range(8000):
        weights = chain[row[-2], row[-1]]
        row.append(int(torch.multinomial(weights, 1, generator=generator)))
    drafter = TrigramDrafter()
    drafter.read([row])
    for (a, b), behind in drafter.table.items():
        shares = torch.tensor([behind.get(c, 0.0) for c in range(3)]).double()
        torch.testing.assert_close(shares, chain[a, b], atol=0.06, rtol=0)
    other = TrigramDrafter()
    other.load(drafter.state())
    uniform = torch.zeros(4)
    assert other.propose(row, 4, uniform) == drafter.propose(row, 4, uniform)


def test_the_tree_holds_the_likeliest_paths():
    drafter = TrigramDrafter(nodes=4, depth=2, boost=0.0)
    drafter.load([(0, 1, 2, 0.6), (0, 1, 3, 0.4), (1, 2, 0, 0.5), (1, 2, 1, 0.5), (1, 3, 0, 0.9)])
    tree = drafter.propose([0, 1], 9, torch.zeros(9))
    # Shares: 2: .6, 3: .4, behind 3 only 0: .4, behind 2: .3 and .3.
    assert list(zip(tree.tokens, tree.parents, strict=True)) == [(2, -1), (3, -1), (0, 1), (0, 0)]
    assert drafter.propose([0, 1], 0, torch.zeros(0)).tokens == []


def test_what_is_written_is_learnt_up_to_the_cap_and_the_table_is_bounded():
    drafter = TrigramDrafter(boost=0.5, cap=1.2, successors=2, pairs=3)
    for _ in range(4):
        drafter.begin()
        drafter.propose([1, 2, 3], 1, torch.zeros(1))
    assert drafter.table == {(1, 2): {3: 1.2}}
    for last in (4, 5, 6):
        drafter.begin()
        drafter.propose([1, 2, last], 1, torch.zeros(1))
    assert len(drafter.table[1, 2]) == 2
    drafter.begin()
    drafter.propose(list(range(10)), 1, torch.zeros(1))
    assert list(drafter.table) == [(5, 6), (6, 7), (7, 8)]


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="temperature: expected at least 0, found -1"):
        DraftedGenerator(oracle(0), NoDrafter(), -1.0)
    gap = torch.tensor([[1, V, 2, V, V]])
    with pytest.raises(InputError, match="expected masks behind all that is given"):
        DraftedGenerator(oracle(0), NoDrafter())(gap, seed=0)
