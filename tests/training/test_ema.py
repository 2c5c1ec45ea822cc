"""The average of weights, and the seeding of the generators a step draws from."""

import copy

import pytest
import torch
from torch import Tensor, nn

from kdlight.core.noise import seed_global
from kdlight.training.ema import EMA


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    made.append(made[0])  # tied: moved once, not twice
    return made


def train_a_little(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
        module[1].running_mean.add_(1)  # type: ignore[index,union-attr,operator]


def test_the_average_is_the_recursion_by_hand() -> None:
    module = network()
    average = EMA(module, half_life=2.0, ramp=0.0)
    expected = [p.detach().clone() for p in module.parameters()]
    for _ in range(3):
        train_a_little(module)
        average.update(module)
        expected = [
            0.5**0.5 * old + (1 - 0.5**0.5) * new.detach()
            for old, new in zip(expected, module.parameters(), strict=True)
        ]
    for kept, value in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(kept.detach(), value)
    assert torch.equal(average.module[1].running_mean, module[1].running_mean)


@pytest.mark.parametrize("change", ["cast", "copied", "another"])
def test_the_average_follows_tensors_that_are_replaced_between_updates(change: str) -> None:
    module = network()
    average = EMA(module, half_life=0.0, ramp=0.0)  # keeps the latest weights
    average.update(module)
    if change == "cast":
        module, average = module.double(), average.double()
    elif change == "copied":
        average, module = copy.deepcopy(average), copy.deepcopy(module)
    else:
        module = copy.deepcopy(module)
    train_a_little(module)
    average.update(module)
    kept, expected = average.module.state_dict(), module.state_dict()
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_seeding_fixes_what_is_drawn_on_the_device() -> None:
    def draw(seed: int) -> Tensor:
        seed_global(seed, torch.device("cpu"))
        return torch.rand(4)

    assert torch.equal(draw(7), draw(7))
    assert not torch.equal(draw(7), draw(8))
    assert torch.equal(draw(7), torch.rand(4, generator=torch.Generator().manual_seed(7)))
