"""Objectives: from logits in chunks, with masks, temperatures and state."""

import copy

import pytest
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.losses.language import objective as objective_file
from kdlight.losses.language import pointwise
from kdlight.losses.language.clipping import ClippedKL, clipped_kl
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.language.matched_rows import Sinkhorn
from kdlight.losses.language.objective import Objective
from kdlight.losses.language.spans import span_correlation
from kdlight.losses.language.taid import TAID, interpolated

POINTWISE = [
    pointwise.ForwardKL(temperature=2.0),
    pointwise.JensenShannon(),
    pointwise.TotalVariation(),
    pointwise.AlphaBeta(),
    pointwise.TopK(3),
    TAID(),
    ClippedKL(candidates=4, hidden=3),
]
V = 7


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of student and teacher, tokens, and a ragged mask."""
    draws = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, V, generator=draws, dtype=dtype)
    tokens = torch.randint(V, (3, 5), generator=draws)
    return student, teacher, tokens, torch.arange(5) < torch.tensor([[5], [2], [0]])


@pytest.mark.parametrize("objective", [*POINTWISE, Sinkhorn()], ids=lambda o: type(o).__name__)
def test_only_counted_tokens_matter(objective: Objective) -> None:
    student, teacher, tokens, mask = example()
    before = objective(student, teacher, tokens, mask)
    assert not before[~mask].any()
    assert before[mask].all()
    student, teacher, tokens = student.clone(), teacher.clone(), tokens.clone()
    student[~mask], teacher[~mask], tokens[~mask] = 5.0, torch.nan, 0
    if isinstance(objective, Sinkhorn):
        teacher[~mask] = 3.0
    assert torch.equal(objective(student, teacher, tokens, mask), before)


@pytest.mark.parametrize("objective", POINTWISE, ids=lambda o: type(o).__name__)
def test_chunks_change_nothing(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, tokens, mask = example()
    student.requires_grad_()
    trained = [student, *objective.parameters()]
    found = []
    for size in (2**26, 2 * 4 * V):  # all at once, two tokens at a time
        monkeypatch.setattr(objective_file, "CHUNK_BYTES", size)
        loss = objective(student, teacher, tokens, mask)
        found.append([loss, *torch.autograd.grad(loss.sum(), trained)])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts)


def test_temperature_squared_keeps_the_gradient() -> None:
    p, q = torch.tensor([[2.0, 1, 0, -1], [0, 1, 0, 0.5]], dtype=torch.float64)[:, None, None]
    mask, tokens = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)
    expected = {1: 0.650680, 2: 0.749837, 4: 0.775418, 8: 0.778185, 64: 0.774447}
    for temperature, value in expected.items():
        found = pointwise.ForwardKL(temperature)(q, p, tokens, mask)
        assert float(found) == pytest.approx(value, abs=1e-6)
        plain = pointwise.ForwardKL(temperature, temperature_squared=False)(q, p, tokens, mask)
        assert float(plain) == pytest.approx(value / temperature**2, abs=1e-6)


def test_half_precision_logits_are_compared_in_float32() -> None:
    student, teacher, tokens, mask = example(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = pointwise.ForwardKL()(student, teacher, tokens, mask)
    assert found.dtype == torch.float32
    exact = pointwise.ForwardKL()(student.double(), teacher.double(), tokens, mask)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def test_taid_at_its_ends_and_between() -> None:
    p, q = torch.tensor([[2.0, 1, 0, -1], [0, 1, 0, 0.5]], dtype=torch.float64)
    mask, tokens = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)
    gradients = []
    for start, value in ((0.0, 0.0), (0.4, 0.107772549381), (1.0, 0.650679804083)):
        logits = q[None, None].clone().requires_grad_()
        loss = TAID(start)(logits, p[None, None], tokens, mask).sum()
        assert float(loss) == pytest.approx(value, abs=1e-11)
        gradients.append(torch.autograd.grad(loss, logits)[0][0, 0])
    assert not gradients[0].abs().gt(1e-15).any()
    expected = torch.tensor([-0.167900, 0.030026, 0.011046, 0.126829], dtype=torch.float64)
    torch.testing.assert_close(gradients[1], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients[2], q.softmax(0) - p.softmax(0))
    between = interpolated(q, p, 0.4)
    torch.testing.assert_close(between, (0.6 * q + 0.4 * p).log_softmax(0))


def test_taid_walks_as_its_algorithm_says() -> None:
    taid = TAID(start=0.4, step=0.1, momentum=0.9)
    shares = []
    for loss in (2.0, 1.0, 0.5):
        # An update of two batches with unlike numbers of tokens.
        taid.observe(torch.tensor(loss * 3), torch.tensor(3))
        taid.observe(torch.tensor(loss * 1), torch.tensor(1))
        taid.advance(done=0.0)
        shares.append(float(taid.share))
    assert shares == pytest.approx([0.4, 0.4307498438, 0.4605633048], abs=1e-10)
    resumed = TAID(start=0.4, step=0.1, momentum=0.9)
    resumed.load_state_dict(copy.deepcopy(taid.state_dict()))
    for each in (taid, resumed):
        each.observe(torch.tensor(0.4), torch.tensor(1))
        each.advance(0.0)
    assert torch.equal(taid.share, resumed.share)
    taid.observe(torch.tensor(0.4), torch.tensor(1))
    taid.advance(done=1.0)
    assert float(taid.share) == 1.0, "never behind the straight line"


def test_an_open_window_is_the_whole_kl_and_a_closed_one_a_lower_bound() -> None:
    student, teacher, tokens, mask = example()
    log_q, log_p = (each[mask].log_softmax(1) for each in (student, teacher))
    whole = forward_kl(log_p, log_q)
    torch.testing.assert_close(clipped_kl(log_p, log_q, torch.ones_like(log_p)), whole)
    few = ClippedKL(candidates=4, floor=0.5)
    gate = few.gate(log_p, log_q, tokens[mask])
    assert ((gate == 0) | (gate == 1)).all()
    assert (gate.gather(1, tokens[mask][:, None]) == 1).all(), "the token of the data stays"
    assert ((gate * log_p.exp()).sum(1) >= 0.5).all()
    with torch.no_grad():
        few.bounds[2].bias.copy_(torch.tensor([-4.0, -4.0]))
    closed = few.gate(log_p, log_q, tokens[mask])
    assert closed.sum() < gate.sum()
    assert (clipped_kl(log_p, log_q, closed) <= whole).all()
    assert (clipped_kl(log_p, log_p, closed).abs() < 1e-12).all()
    loss = few(student, teacher, tokens, mask)
    loss.sum().backward()
    assert few.bounds[2].bias.grad.any(), "the window learns"


def test_span_correlation() -> None:
    student, teacher, _, _ = example()
    log_q, log_p = student.log_softmax(2), teacher.log_softmax(2)
    spans = torch.tensor([[0, 0, 1, 1, 1], [-1, -1, 0, 1, 2], [0, 1, 1, -1, -1]])
    found = span_correlation(log_p, log_q, spans)
    pairs = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    assert torch.equal(found > 0, pairs)
    first, second = (each.exp()[2, 1] * each.exp()[2, 2] for each in (log_p, log_q))
    expected = (first / first.sum() - second / second.sum()).square().sum()
    torch.testing.assert_close(found[2, 1], expected)
    assert not span_correlation(log_p, log_p, spans).any()
    logits = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: span_correlation(log_p, z.log_softmax(2), spans), (logits,)
    )


def test_numbers_out_of_range_are_named() -> None:
    for make, message in (
        (lambda: pointwise.JensenShannon(beta=0), "the ends are ForwardKL and ReverseKL"),
        (lambda: pointwise.ForwardKL(temperature=0), "temperature: expected a number above 0"),
        (lambda: pointwise.AlphaBeta(0, 0), "not both 0, found 0 and 0"),
        (lambda: pointwise.TopK(0), "k: expected at least 1"),
        (lambda: TAID(start=1.5), r"start: expected a number in \[0, 1\], found 1.5"),
        (lambda: Sinkhorn(sweeps=0), "sweeps: expected at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            make()
