"""Learning-rate schedules against hand values, and Muon beside AdamW."""

import pytest
import torch
from torch import nn

from kdlight.errors import InputError
from kdlight.training.muon import orthogonalised
from kdlight.training.optim import Optimization


@pytest.mark.parametrize(
    ("settings", "step", "share"),
    [
        ({"decay": "constant"}, 999, 1.0),
        ({"decay": "constant", "warmup": 10}, 0, 0.1),
        ({"decay": "constant", "warmup": 10}, 9, 1.0),
        ({"decay": "linear"}, 250, 0.75),
        ({"decay": "linear", "final_lr": 0.2}, 500, 0.6),
        ({"decay": "linear", "hold": 600}, 599, 1.0),
        ({"decay": "linear", "hold": 600, "warmup": 100}, 800, 0.5),
        ({"decay": "cosine"}, 500, 0.5),
        ({"decay": "cosine", "warmup": 200}, 600, 0.5),
        ({"decay": "inverse_sqrt", "hold": 100}, 99, 1.0),
        ({"decay": "inverse_sqrt", "hold": 100}, 400, 0.5),
        ({"decay": "inverse_sqrt", "hold": 100, "warmup": 10}, 4, 0.5),
        ({"decay": "inverse_sqrt", "hold": 100, "warmup": 10}, 900, 1 / 3),
    ],
)
def test_the_learning_rate(settings, step, share) -> None:
    assert Optimization(lr=2.0, **settings).lr_at(step, 1000) == pytest.approx(2.0 * share)


def test_a_negative_hold_is_refused() -> None:
    with pytest.raises(InputError, match="hold: expected a number of at least 0, found -1"):
        Optimization(hold=-1)


def two_layers() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()


def test_muon_is_pytorchs_for_matrices_and_adamw_for_the_rest() -> None:
    settings = Optimization(algorithm="muon", lr=0.01, weight_decay=0.1)
    found, expected = two_layers(), two_layers()
    train(found, settings.build(found.parameters()), range(5))
    matrices = [p for p in expected.parameters() if p.ndim == 2]
    rest = [p for p in expected.parameters() if p.ndim != 2]
    muon = torch.optim.Muon(
        matrices, 0.01, weight_decay=0.1, eps=1e-8, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(rest, 0.01, weight_decay=0.1)
    for step in range(5):
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        expected.zero_grad()
        expected(inputs).square().sum().backward()
        muon.step()
        adam.step()
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        if a.ndim == 2:  # five steps of 0.01 * 0.2 * sqrt(5), PyTorch's rounded to bfloat16
            torch.testing.assert_close(a, b, rtol=0, atol=5 * 0.0045 * 2**-6)
        else:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_a_matrix_keeps_its_directions_and_its_values_come_near_one(shape) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    assert values.min() > 0.65
    assert values.max() < 1.25
    torch.testing.assert_close(found.double(), left * values @ right, rtol=1e-4, atol=1e-5)


def test_muon_resumes_to_the_bit() -> None:
    settings = Optimization(algorithm="muon", lr=0.01)
    whole, stopped, resumed = two_layers(), two_layers(), two_layers()
    train(whole, settings.build(whole.parameters()), range(6))
    optimizer = settings.build(stopped.parameters())
    train(stopped, optimizer, range(3))
    resumed.load_state_dict(stopped.state_dict())
    again = settings.build(resumed.parameters())
    again.load_state_dict(optimizer.state_dict())
    train(resumed, again, range(3, 6))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
