"""Learning-rate schedules against hand values, and Muon beside AdamW."""

import pytest
import torch
from torch import nn

from kdlight.errors import InputError
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
        torch.testing.assert_close(a, b)


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
