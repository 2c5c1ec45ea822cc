"""Continuous-time consistency: its loss, what can teach and learn, an exact student."""

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from datamodules.loader import StreamLoader
from kdlight.diffusion.denoisers import (
    ConsistencyDenoiser,
    EDMDenoiser,
    GuidedDenoiser,
    TrigFlowDenoiser,
)
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid, LogNormalNoise
from kdlight.errors import InputError
from kdlight.losses.continuous import (
    directional_derivative,
    limited,
    tangent,
    tangent_error,
)
from kdlight.networks.loss_weight import AdaptiveWeight
from kdlight.networks.mlp import FourierFeatures, ScaleShiftMLP
from kdlight.training.optim import Optimization
from modules.diffusion.continuous_consistency import ContinuousConsistency
from tests.exactness.diffusion_cases import tiny_denoiser, tiny_teacher
from tests.exactness.harness import fit
from tests.modules.diffusion.continuous_consistency_examples import (
    MEAN,
    SIGMA_DATA,
    STD,
    end_of_ode,
    oracle,
    times,
)

# The loss -----------------------------------------------------------------------------------------


def test_the_error_is_the_tangents_and_its_gradient_points_along_it() -> None:
    estimate = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    error = tangent_error(estimate, g)
    torch.testing.assert_close(error, g.square().flatten(1).mean(1))
    error.sum().backward()
    torch.testing.assert_close(estimate.grad, -2 * g.detach() / 6)
    assert g.grad is None


def method(**kwargs: Any) -> ContinuousConsistency:
    settings: dict[str, Any] = {"optimizer": Optimization(), "warmup": 0, "iterations": 10}
    return ContinuousConsistency(**(settings | kwargs))


@pytest.mark.parametrize("derivative", ["jvp", "finite_difference"])
def test_the_gradient_is_that_of_minus_two_g_f_and_of_nothing_else(derivative: Any) -> None:
    module = method(teacher=tiny_teacher(), derivative=derivative)
    student = module.student
    t = times(6)
    x_t, dx_t = (torch.randn(6, 1, 4, 4) for _ in range(2))
    label = {"label": torch.arange(6) % 2}
    module.consistency_error(x_t, dx_t, t, label).mean().backward()
    found = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()
    scaled, dt = x_t / 0.5, t.cos() * t.sin()
    change = directional_derivative(
        lambda x, time: student.velocity(x, time, label),
        scaled,
        t,
        dt.float().reshape(-1, 1, 1, 1) * dx_t / 0.5,
        dt,
        derivative,
    )
    estimate = student.velocity(scaled, t, label)
    g = limited(tangent(estimate, change, x_t, dx_t, t, 0.5)).detach()
    (-2 * g * estimate).mean().backward()
    assert found
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_no_gradient_reaches_the_teacher() -> None:
    module = method(teacher=tiny_teacher(), iterations=3)
    before = {name: p.clone() for name, p in module.teacher.named_parameters()}
    fit(module)
    assert before
    for name, parameter in module.teacher.named_parameters():
        assert parameter.grad is None, name
        assert not parameter.requires_grad, name
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("derivative", ["jvp", "finite_difference"])
def test_all_passes_draw_the_same_dropout_masks(derivative: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = ScaleShiftMLP((1, 4, 4), 16, 1, dropout=0.5)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    module = method(student=TrigFlowDenoiser(network), shape=[1, 4, 4], derivative=derivative)
    module.train()
    calls: list[tuple[Tensor, Tensor]] = []

    class Watched(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            kept = nn.functional.dropout(torch.ones(hidden.shape), 0.5)
            calls.append((kept, hidden))
            return hidden * kept

    for block in network.blocks:
        block.dropout = Watched()
    x_t, dx_t = (torch.randn(6, 1, 4, 4) for _ in range(2))
    module.consistency_error(x_t, dx_t, times(6), {})
    assert len(calls) == {"jvp": 2, "finite_difference": 3}[derivative]
    for kept, _ in calls:
        assert 0 < kept.mean() < 2
        assert torch.equal(kept, calls[0][0])


def test_dropout_masks_are_those_of_the_plain_pass_under_forward_mode() -> None:
    network = nn.Dropout(0.5)
    x = torch.randn(100, dtype=torch.float64)
    torch.manual_seed(1)
    plain = network(x)
    torch.manual_seed(1)
    value, change = torch.func.jvp(network, (x,), (torch.ones_like(x),))
    assert torch.equal(plain, value)
    assert torch.equal(change != 0, plain != 0)


def test_the_adaptive_weight_ends_at_the_inverse_error() -> None:
    torch.manual_seed(0)
    weighting = AdaptiveWeight()
    assert torch.equal(weighting(times()), torch.zeros(64))
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.02)
    # Errors with a factor of 1,000 between the ends of the arc.
    law = LogNormalNoise(-0.5, 1.5)
    source = torch.Generator().manual_seed(4)

    def expected(t: Tensor) -> Tensor:
        return 0.01 + 10 * t.cos() ** 2

    for _ in range(1500):
        t = (law(torch.rand(256, generator=source, dtype=torch.float64)) / SIGMA_DATA).atan()
        error = expected(t) * 2 * torch.rand(256, generator=source, dtype=torch.float64)
        w = weighting(t)
        optimizer.zero_grad()
        (w.exp() * error - w).mean().backward()
        optimizer.step()
    t = (law(torch.linspace(0.02, 0.98, 50, dtype=torch.float64)) / SIGMA_DATA).atan()
    off = weighting(t).detach() + expected(t).log()
    assert off.abs().mean() < 0.15


def test_both_parts_of_the_loss_are_trained() -> None:
    weighting = AdaptiveWeight()
    module = fit(method(teacher=tiny_teacher(), weighting=weighting, iterations=5))
    assert isinstance(module, ContinuousConsistency)
    assert weighting.output.weight.abs().max() > 0
    other = fit(method(teacher=tiny_teacher(), iterations=5))
    assert isinstance(other, ContinuousConsistency)
    differ = [
        name
        for (name, a), b in zip(
            module.student.named_parameters(), other.student.parameters(), strict=True
        )
        if not torch.equal(a, b)
    ]
    assert differ, "the weight weighs"


# What can teach, what can learn -------------------------------------------------------------------


def test_the_student_is_a_copy_of_the_network_of_its_teacher() -> None:
    teacher = tiny_teacher()
    guided = Generator(GuidedDenoiser(teacher.denoiser, 2.0), teacher.grid, teacher.shape)
    module = method(teacher=guided)
    assert isinstance(module.student, EDMDenoiser)
    assert module.student is not teacher.denoiser
    for mine, its in zip(module.student.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.requires_grad


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({}, "teacher: expected a teacher or a student to start from, found null"),
        (
            {"student": ConsistencyDenoiser(nn.Identity()), "shape": [2]},
            "student: expected an EDMDenoiser, TrigFlow.* found a ConsistencyDenoiser",
        ),
        (
            {"teacher": Generator(oracle(), KarrasGrid(), [3])},
            "student: expected a student of its own for a teacher without weights",
        ),
        ({"teacher": tiny_teacher(), "c": -1.0}, "c: expected a number of at least 0, found -1.0"),
        ({"teacher": tiny_teacher(), "warmup": -1}, "warmup: expected .* found -1"),
        ({"student": tiny_denoiser()}, "shape: expected the shape of one sample"),
    ],
)
def test_what_cannot_be_trained_is_refused(kwargs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        method(**kwargs)


# An affine student of Gaussian data ---------------------------------------------------------------


class Affine(nn.Module):
    """``F = a(t) x + b(t)``, which holds the exact function."""

    num_classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.features = FourierFeatures(16, max_frequency=2.0)
        self.net = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 4))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor, noise: Tensor, condition: object = None) -> Tensor:
        out = self.net(self.features(noise).to(x.dtype))
        return out[:, :1] * x + out[:, 1:]


class GaussianPoints(L.LightningDataModule):
    shape = (3,)
    num_classes = 0

    def train_dataloader(self) -> StreamLoader:
        draws = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(2))
        # Exactly this mean and spread: what a finite draw is off by is no method's fault.
        draws = (draws - draws.mean(0)) / draws.std(0)
        return StreamLoader(
            {"image": MEAN + STD * draws}, 256, steps_per_epoch=1000, seed=1, rank=0, world_size=1
        )


@pytest.mark.slow
@pytest.mark.parametrize("taught", [True, False], ids=["scd", "sct"])
@pytest.mark.parametrize(
    ("wrapper", "derivative"), [(TrigFlowDenoiser, "jvp"), (EDMDenoiser, "finite_difference")]
)
def test_an_affine_student_reaches_the_exact_function(
    taught: bool, wrapper: type[EDMDenoiser | TrigFlowDenoiser], derivative: Any
) -> None:
    sigma_max = 10.0
    torch.manual_seed(0)
    module = fit(
        method(
            optimizer=Optimization(lr=5e-3, beta2=0.99, decay="cosine"),
            iterations=1500,
            teacher=Generator(oracle(), KarrasGrid(0.02, sigma_max), (3,)) if taught else None,
            student=wrapper(Affine(), SIGMA_DATA, 0.02, sigma_max),
            shape=[3],
            noise_law=LogNormalNoise(0.0, 1.5),
            derivative=derivative,
            # No adaptive weight: this student can be exact, its error 0, its weight infinite.
            warmup=500,
            ema_half_life=50.0,
        ),
        GaussianPoints(),
    )
    ((_, generator),) = module.generators().values()
    x = MEAN + sigma_max * torch.randn(4000, 3, generator=torch.Generator().manual_seed(9))
    found = generator.denoiser(x, torch.tensor(sigma_max))
    expected = end_of_ode(x, sigma_max)
    assert (found - expected).norm() <= 0.02 * expected.norm()
