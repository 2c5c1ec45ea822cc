"""Divergences in float64: digits worked out by hand, limits, and gradients."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from kdlight.losses.language import divergences as d
from kdlight.losses.language.transport import sinkhorn, sorted_distance
from kdlight.losses.language.truncated import top_k, top_k_stored

P = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64).log_softmax(0)
Q = torch.tensor([0.0, 1.0, 0.0, 0.5], dtype=torch.float64).log_softmax(0)

VALUES = {
    d.forward_kl: 0.650679804083,
    d.reverse_kl: 0.663362942982,
    d.total_variation: 0.486854496538,
    d.log_acceptance: 0.667195841549,
    partial(d.jensen_shannon, beta=0.1): 0.056587941995,
    d.jensen_shannon: 0.148639950629,
    partial(d.jensen_shannon, beta=0.9): 0.056821406918,
    d.skewed_forward_kl: 0.494509862356,
    d.skewed_reverse_kl: 0.492062012632,
    d.adaptive_kl: 0.657021373533,
    d.alpha_beta: 0.744283926543,
    partial(d.alpha_beta, alpha=1, beta=1): 0.164756561615,
    partial(d.alpha_beta, alpha=0.5, beta=0.5): 0.623472649241,
    # Limits.
    partial(d.alpha_beta, alpha=1, beta=0): 0.650679804083,
    partial(d.alpha_beta, alpha=0, beta=1): 0.663362942982,
    partial(d.skewed_forward_kl, skew=0): 0.650679804083,
    partial(d.skewed_reverse_kl, skew=0): 0.663362942982,
    partial(top_k, k=4): 0.650679804083,
}


@pytest.mark.parametrize("measure", VALUES)
def test_values(measure):
    assert float(measure(P, Q)) == pytest.approx(VALUES[measure], abs=1e-11)


@pytest.mark.parametrize("measure", [*VALUES, partial(top_k, k=2), partial(top_k, k=1)])
def test_zero_at_the_teacher_and_gradients_of_finite_differences(measure):
    at_teacher = P.clone().requires_grad_()
    loss = measure(P, at_teacher.log_softmax(0))
    assert float(loss) == pytest.approx(0, abs=1e-12)
    if measure not in (d.total_variation, d.log_acceptance):  # of which p = q is a kink
        (gradient,) = torch.autograd.grad(loss, at_teacher)
        assert gradient.abs().max() < 1e-9
    logits = torch.tensor([0.3, 1.0, -0.4, 0.5], dtype=torch.float64, requires_grad=True)
    if measure is d.adaptive_kl:  # weights without gradient: no derivative of the value
        return
    assert torch.autograd.gradcheck(lambda z: measure(P, z.log_softmax(0)), (logits,))


def test_gradients_in_the_logits():
    logits = Q.clone().requires_grad_()
    log_q = logits.log_softmax(0)
    q, p = log_q.exp().detach(), P.exp()
    (forward,) = torch.autograd.grad(d.forward_kl(P, log_q), logits, retain_graph=True)
    torch.testing.assert_close(forward, q - p)
    (reverse,) = torch.autograd.grad(d.reverse_kl(P, log_q), logits, retain_graph=True)
    torch.testing.assert_close(reverse, q * (Q - P - d.reverse_kl(P, Q)))
    (variation,) = torch.autograd.grad(d.total_variation(P, log_q), logits, retain_graph=True)
    (acceptance,) = torch.autograd.grad(d.log_acceptance(P, log_q), logits)
    torch.testing.assert_close(acceptance, variation / 0.513145503462, rtol=1e-9, atol=0)


def test_jensen_shannon_tends_to_the_share_of_a_kl():
    assert float(d.jensen_shannon(P, Q, 1e-6)) / 1e-6 == pytest.approx(0.650678892380, abs=1e-8)
    assert float(d.jensen_shannon(P, Q, 1 - 1e-6)) / 1e-6 == pytest.approx(0.663361851793, abs=1e-8)


def test_adaptive_kl_weighs_by_the_gap_in_the_head():
    log_p = torch.tensor([2, 1.5, 0, -1], dtype=torch.float64).log_softmax(0)
    log_q = torch.tensor([0, 1, 2, 0.5], dtype=torch.float64).log_softmax(0)
    share = 0.396366988
    expected = share * 1.055665354139 + (1 - share) * 1.126187519920
    assert float(d.adaptive_kl(log_p, log_q)) == pytest.approx(expected, abs=1e-9)
    assert float(d.adaptive_kl(log_p, log_q)) == pytest.approx(1.098234861448, abs=1e-9)


def test_a_teacher_without_mass_somewhere_is_no_nan():
    log_p = torch.tensor([0.5, 0.5, 0.0]).log()
    logits = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    log_q = logits.log_softmax(0)
    for measure in (d.forward_kl, d.jensen_shannon, d.skewed_reverse_kl, d.total_variation):
        (gradient,) = torch.autograd.grad(measure(log_p, log_q), logits, retain_graph=True)
        assert gradient.isfinite().all(), measure
    assert d.reverse_kl(log_p, log_q) == math.inf


def test_top_k_and_its_tails():
    log_p = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.06, 0.04], dtype=torch.float64).log()
    log_q = torch.tensor([0.3, 0.3, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64).log()
    expected = {
        "bucket": 0.088015168526,
        "renormalised": 0.094877591975,
        "ignored": 0.605703215741,
    }
    for tail, value in expected.items():
        assert float(top_k(log_p, log_q, 2, tail)) == pytest.approx(value, abs=1e-11)
    assert float(top_k(log_p, log_p, 2, "ignored")) == pytest.approx(-math.log(0.7), abs=1e-11)
    assert float(d.forward_kl(log_p, log_q)) == pytest.approx(0.107018623560, abs=1e-11)
    stored = log_p.topk(2)
    assert float(top_k_stored(stored.values, log_q, stored.indices)) == pytest.approx(
        expected["bucket"], abs=1e-11
    )


def test_the_tail_is_exact_where_it_is_tiny():
    log_p = torch.tensor([1 - 1e-13, 1e-13], dtype=torch.float64).log()
    log_q = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    assert float(top_k(log_p, log_q, 1)) == pytest.approx(math.log(4), abs=1e-10)


def test_sorted_distance_is_blind_to_which_token():
    log_p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
    log_q = torch.tensor([0.1, 0.5, 0.3, 0.1], dtype=torch.float64).log()
    for order in ([0, 1, 2], [2, 0, 1]):
        assert float(sorted_distance(log_p[order], log_q)) == pytest.approx(0.4, abs=1e-12)


STUDENT = [[1.0, 0, 0], [0, 0, 1], [-1, 1, 1]]
TEACHER = [[2.0, 0, -1], [0, 1, 0], [-1, 0, 2]]


def rows(logits: list[list[float]]) -> Tensor:
    return (torch.tensor(logits, dtype=torch.float64) / 2).log_softmax(1)[None]


def test_sinkhorn_and_its_limits():
    every = torch.ones(1, 3, dtype=torch.bool)
    log_p, log_q = rows(TEACHER), rows(STUDENT)
    value = float(sinkhorn(log_p, log_q, every).sum())
    assert value == pytest.approx(1.086560991314, abs=1e-11)
    more = float(sinkhorn(log_p, log_q, every, sweeps=2000).sum())
    assert more == pytest.approx(1.086675856442, abs=1e-10)
    sharp = float(sinkhorn(log_p, log_q, every, regularisation=0.01, sweeps=2000).sum())
    assert sharp == pytest.approx(1.003515, abs=1e-5)
    # At great regularisation the plan is even: the mean cost of all pairs.
    cost = torch.cdist(log_q.exp(), log_p.exp(), p=1)
    flat = sinkhorn(log_p, log_q, every, regularisation=1e9)
    torch.testing.assert_close(flat, cost.mean(dim=2))


def test_sinkhorn_takes_no_notice_of_padding_and_none_of_order():
    log_p, log_q = rows([*TEACHER, [9, 0, 0]]), rows([*STUDENT, [0, 9, 0]])
    mask = torch.tensor([[True, True, True, False]])
    assert float(sinkhorn(log_p, log_q, mask).sum()) == pytest.approx(1.086560991314, abs=1e-11)
    perfect, every = rows(TEACHER), torch.ones(1, 3, dtype=torch.bool)
    shuffled = float(sinkhorn(perfect, perfect[:, [2, 0, 1]], every).sum())
    assert shuffled == pytest.approx(0.002473970154, abs=1e-11)
    logits = torch.tensor([STUDENT], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: sinkhorn(perfect, (z / 2).log_softmax(2), every, sweeps=3), (logits,)
    )
    nothing = sinkhorn(perfect, logits.log_softmax(2), mask[:, :3] & False)
    nothing.sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()
