import math

import pytest
import torch

from kdlight.losses.information import information_bound

MATRIX = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [-0.5, 0.0, 3.0]], dtype=torch.float64)


def test_one_is_infonce_by_hand():
    assert float(information_bound(MATRIX, 1.0)) == pytest.approx(0.789591510421, abs=1e-12)


def test_zero_is_nwj_by_hand():
    apart = [math.exp(0), math.exp(-1), math.exp(0), math.exp(0.5), math.exp(-0.5), math.exp(0)]
    expected = 1 + 2.0 - sum(apart) / 6
    assert float(information_bound(MATRIX, 0.0)) == pytest.approx(expected, abs=1e-12)
    # The baseline divides both.
    moved = information_bound(MATRIX, 0.0, baseline=0.3)
    assert float(moved) == pytest.approx(1 + 1.7 - sum(apart) / 6 / math.exp(0.3), abs=1e-12)


@pytest.mark.parametrize(("alpha", "value", "spread"), [(1.0, 4.0914, 0.02), (0.1, 6.59, 0.1)])
def test_gaussians_with_the_exact_critic(alpha, value, spread):
    """Ten pairs with correlation 0.9 have 8.3037 nats; of 64, InfoNCE can see log 64 = 4.1589."""
    rho, generator = 0.9, torch.Generator().manual_seed(0)
    found = []
    for _ in range(60):
        x = torch.randn(64, 10, generator=generator, dtype=torch.float64)
        noise = torch.randn(64, 10, generator=generator, dtype=torch.float64)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        gap = (y[:, None] - rho * x[None]).square().sum(2) / (1 - rho**2)
        log_ratio = 0.5 * (y.square().sum(1)[:, None] - gap) - 5 * math.log(1 - rho**2)
        found.append(information_bound(log_ratio, alpha))
    mean = float(torch.stack(found).mean())
    assert mean == pytest.approx(value, abs=spread)
    assert mean < (math.log(64) if alpha == 1 else 8.3037)


def test_gradients_are_finite_where_all_others_are_impossible():
    scores = (1000 * torch.eye(3, dtype=torch.float64)).requires_grad_(True)
    for alpha in (0.0, 0.5, 1.0):
        (gradient,) = torch.autograd.grad(information_bound(scores, alpha), scores)
        assert gradient.isfinite().all()
    near = MATRIX.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda each: information_bound(each, 0.3, 0.1), near)
