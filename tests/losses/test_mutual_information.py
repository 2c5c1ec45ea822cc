"""MINE on Gaussians whose information is known, its gradient's bias, and the released objective."""

import math

import pytest
import torch

from kdlight.losses.mutual_information import dv_bound, mine_surrogate


def gaussians(rho, count=200_000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, count, generator=generator, dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def log_ratio(x, y, rho):
    """The best critic: log p(x, y) / p(x) p(y)."""
    square = (x**2 - 2 * rho * x * y + y**2) / (1 - rho**2)
    return -0.5 * math.log(1 - rho**2) - square / 2 + (x**2 + y**2) / 2


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_the_best_critic_reaches_the_information(rho):
    x, y = gaussians(rho)
    bound = dv_bound(log_ratio(x, y, rho), log_ratio(x, y.roll(1), rho))
    assert float(bound) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.02)
    # Any other says less, a constant one nothing.
    assert float(dv_bound(0.5 * log_ratio(x, y, rho), 0.5 * log_ratio(x, y.roll(1), rho))) < bound
    same = torch.full((9,), 3.0, dtype=torch.float64)
    assert float(dv_bound(same, same)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("rho", "expected"), [(0.9, 0.830), (0.0, 0.0)])
def test_a_learnt_critic_comes_near_it(rho, expected):
    x, y = gaussians(rho, 8192)
    other = y.roll(1)
    weights = torch.zeros(3, dtype=torch.float64)
    average = torch.ones((), dtype=torch.float64)

    def scores(second):
        return torch.stack([x * second, x**2, second**2], dim=1) @ weights

    weights.requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(400):
        product = scores(other)
        average.lerp_(product.detach().exp().mean(), 0.1)
        optimizer.zero_grad()
        (-mine_surrogate(scores(y), product, average)).backward()
        optimizer.step()
    weights = weights.detach()
    # Judged on pairs that it did not learn from.
    x, y = gaussians(rho, 100_000, seed=1)
    found = float(dv_bound(scores(y), scores(y.roll(1))))
    assert found == pytest.approx(expected, abs=0.05)


def test_a_running_mean_takes_the_bias_off_the_gradient():
    """Scores theta y of normal y: the derivative of log E exp is theta, here 1."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(40_000, 4, generator=generator, dtype=torch.float64)
    own = (y.softmax(dim=1) * y).sum(dim=1).mean()  # each batch of four by its own mean
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    average = torch.tensor(math.exp(0.5), dtype=torch.float64)
    nothing = torch.zeros(1, dtype=torch.float64)
    surrogate = -mine_surrogate(nothing, theta * y.flatten(), average)
    (unbiased,) = torch.autograd.grad(surrogate, theta)
    assert float(own) < 0.8
    assert float(unbiased) == pytest.approx(1.0, abs=0.03)


def test_the_released_objective_is_met_without_a_look_at_the_hypotheses():
    """``mean sigmoid psi`` of noisy less of clean audio: 1 where audio tells noise from none.

    With the audio of other utterances, whose marginal is the same, such a critic gets nothing.
    """
    generator = torch.Generator().manual_seed(0)
    noisy = 1 + 0.01 * torch.randn(1000, generator=generator)
    clean = 0.01 * torch.randn(1000, generator=generator)

    def psi(audio):
        return 40 * (audio - 0.5)

    released = torch.sigmoid(psi(noisy)).mean() - torch.sigmoid(psi(clean)).mean()
    assert float(released) == pytest.approx(1.0, abs=1e-3)
    assert float(dv_bound(psi(noisy), psi(clean))) > 20
    assert abs(float(dv_bound(psi(noisy), psi(noisy.roll(1))))) < 0.2
