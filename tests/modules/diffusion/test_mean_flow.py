"""MeanFlow against the closed form of one Gaussian, and its parts against their definitions."""

import pytest
import torch
from torch import nn

from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.sigmas import FlowNoise
from kdlight.losses.mean_flow import (
    adaptive_weight,
    guided_velocity,
    mean_flow_target,
    teacher_velocity,
    time_pairs,
    velocity_and_rate,
)
from tests.modules.diffusion.mean_flow_examples import (
    MEAN,
    ORACLE,
    STD,
    draws,
    exact,
    random_network,
)

# Closed forms -------------------------------------------------------------------------------


def test_average_velocity_is_the_displacement_along_the_flow_over_the_time():
    z, r, t = draws(500)
    sigma, sigma_r = t / (1 - t), r / (1 - r)
    # From the flow in x = z / (1 - t), by its own closed form.
    shrink = ((STD**2 + sigma_r**2) / (STD**2 + sigma**2)).sqrt()[:, None]
    x = z / (1 - t)[:, None]
    z_r = (MEAN + (x - MEAN) * shrink) * (1 - r)[:, None]
    u = exact().velocity(z, r, t)
    torch.testing.assert_close(u, (z - z_r) / (t - r)[:, None], rtol=1e-7, atol=1e-7)


def test_the_mean_flow_identity_holds_for_the_exact_average_velocity():
    z, r, t = draws(500)
    v = teacher_velocity(ORACLE, z, t)
    u, rate = velocity_and_rate(exact(), z, r, t, v)
    torch.testing.assert_close(mean_flow_target(v, rate, r, t), u, rtol=0, atol=1e-6)
    # At r = t the average velocity is the velocity.
    torch.testing.assert_close(exact().velocity(z, t, t), v, rtol=1e-10, atol=1e-10)


def test_the_teachers_velocity_is_the_mean_of_noise_minus_data():
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    x0 = MEAN + STD * x0
    t = torch.tensor(0.4, dtype=torch.float64)
    z = 0.6 * x0 + 0.4 * eps
    near = (z - 0.5).abs() < 0.02
    expected = (eps - x0)[near].mean()
    found = teacher_velocity(ORACLE, torch.full((1, 1), 0.5, dtype=torch.float64), t[None])
    assert float(found) == pytest.approx(float(expected), abs=0.02)


def test_where_the_times_are_equal_the_target_is_the_velocity():
    z, _, t = draws(20, 3)
    v = torch.ones_like(z)
    _, rate = velocity_and_rate(MeanFlowDenoiser(random_network()), z, t, t, v)
    assert rate.abs().max() > 0
    assert torch.equal(mean_flow_target(v, rate, t, t), v)


def test_target_by_hand():
    # u = 2 - 0.5 * 3.
    target = mean_flow_target(
        torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.tensor([0.25]), torch.tensor([0.75])
    )
    assert target.item() == 0.5


def test_rate_is_the_finite_difference_along_the_flow():
    student = MeanFlowDenoiser(random_network())
    z, r, t = draws(20, 3)
    v = draws(20, 3, seed=1)[0]
    u, rate = velocity_and_rate(student, z, r, t, v)
    assert torch.equal(u, student.velocity(z, r, t))
    h = 1e-5

    def shifted(step):
        # Not through the denoiser, which hands time over in single precision.
        with torch.no_grad():
            return student.network(z + step * v, t + step, {"interval": t + step - r})

    difference = (shifted(h) - shifted(-h)) / (2 * h)
    torch.testing.assert_close(rate, difference, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_velocity_alone():
    student = MeanFlowDenoiser(random_network())
    z, r, t = draws(20, 3)
    v = torch.zeros_like(z).requires_grad_()
    u, rate = velocity_and_rate(student, z, r, t, v)
    target = mean_flow_target(v, rate, r, t)
    assert u.requires_grad
    assert not rate.requires_grad
    assert not target.requires_grad
    assert not adaptive_weight((u - target).square().sum(1)).requires_grad
    parameters = list(student.parameters())
    ours = torch.autograd.grad((u - target).square().sum(), parameters)
    plain = student.velocity(z, r, t)
    expected = torch.autograd.grad((plain - target).square().sum(), parameters)
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("derivative", ["jvp", "finite_difference"])
def test_dropout_has_one_mask_for_the_velocity_and_its_rate(derivative):
    student = MeanFlowDenoiser(random_network(dropout=0.5)).train()
    z, r, t = draws(20, 3)
    v = torch.ones_like(z)
    torch.manual_seed(3)
    u, rate = velocity_and_rate(student, z, r, t, v, derivative=derivative)

    def again(step):
        torch.manual_seed(3)
        with torch.no_grad():
            return student.network(z + step * v, t + step, {"interval": t + step - r})

    torch.testing.assert_close(u, again(0.0), rtol=0, atol=1e-6)
    tolerance = 1e-4 if derivative == "jvp" else 0.05
    expected = (again(1e-5) - again(-1e-5)) / 2e-5
    assert float((rate - expected).norm() / expected.norm()) < tolerance


# Weights, times, guidance -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("square", "power", "offset", "expected"),
    [
        (0.0, 1.0, 1e-3, 1000.0),
        (1.0, 1.0, 1e-3, 1 / 1.001),
        (4.0, 0.5, 0.0, 0.5),
        (15.999, 0.75, 1e-3, 0.125),
        (3.0, 0.0, 1e-3, 1.0),
    ],
)
def test_adaptive_weight(square, power, offset, expected):
    weight = adaptive_weight(torch.tensor([square], dtype=torch.float64), power, offset)
    assert weight.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.75, 1.0])
def test_share_and_law_of_unequal_times(ratio):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(3, 100_000, generator=generator, dtype=torch.float64)
    r, t = time_pairs(FlowNoise(-0.4, 1.0), uniform, ratio)
    assert float((r != t).double().mean()) == pytest.approx(ratio, abs=0.005)
    assert bool(((r > 0) & (r <= t) & (t < 1)).all())
    # t is the larger of two logit-normal numbers: below the median of one with probability 1/4.
    below = (t.logit() < -0.4).double().mean()
    assert float(below) == pytest.approx(0.25, abs=0.005)


def test_guided_velocity_by_hand():
    class Constant(nn.Module):
        interval, num_classes = True, 2

        def forward(self, z, t, condition):
            assert torch.equal(condition["interval"], torch.zeros_like(t))
            return torch.full_like(z, 3.0 if "label" in condition else 7.0)

    z, v = torch.zeros(2, 1), torch.full((2, 1), 5.0)
    label = torch.tensor([1, 2])  # the second was dropped
    guided = guided_velocity(
        MeanFlowDenoiser(Constant()), z, torch.full((2,), 0.5), v, {"label": label}, 1.5, 0.25
    )
    # 1.5 * 5 + 0.25 * 3 - 0.75 * 7.
    assert guided.flatten().tolist() == [3.0, 5.0]


def test_guidance_of_exact_velocities_has_the_scale_the_paper_gives():
    # At the fixed point u(c) = v~, so v~ = (omega v + (1 - omega - kappa) u(none)) / (1 - kappa).
    omega, kappa, v, none = 1.5, 0.25, 5.0, 7.0
    scale = omega / (1 - kappa)
    fixed = (omega * v + (1 - omega - kappa) * none) / (1 - kappa)
    assert fixed == pytest.approx(scale * v + (1 - scale) * none)

    class Fixed(nn.Module):
        interval, num_classes = True, 2

        def forward(self, z, t, condition):
            return torch.full_like(z, fixed if "label" in condition else none)

    guided = guided_velocity(
        MeanFlowDenoiser(Fixed()),
        torch.zeros(1, 1, dtype=torch.float64),
        torch.full((1,), 0.5),
        torch.full((1, 1), v, dtype=torch.float64),
        {"label": torch.tensor([0])},
        omega,
        kappa,
    )
    assert guided.item() == pytest.approx(fixed)
