"""sCM against its closed forms (arXiv:2410.11081)."""

import math

import pytest
import torch
from torch import Tensor

from kdlight.diffusion.denoisers import (
    Denoiser,
    EDMDenoiser,
    TrigFlowDenoiser,
)
from kdlight.losses.continuous import (
    Velocity,
    directional_derivative,
    limited,
    tangent,
    teacher_velocity,
    warmup_share,
)
from kdlight.networks.images.unet import UNet2D
from tests.exactness.diffusion_cases import tiny_denoiser
from tests.modules.diffusion.continuous_consistency_examples import (
    MEAN,
    SIGMA_DATA,
    STD,
    end_of_ode,
    oracle,
    times,
)


def points(count: int = 64, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=source, dtype=torch.float64)


def exact_velocity(scaled: Tensor, t: Tensor) -> Tensor:
    """F*, for which ``cos t x_t - sin t sigma_data F*`` is f*."""
    x_t, cos, sin = SIGMA_DATA * scaled, t.cos()[:, None], t.sin()[:, None]
    ends = end_of_ode(x_t / cos, SIGMA_DATA * t.tan()[:, None])
    return (cos * x_t - ends) / (SIGMA_DATA * sin)


def tangent_of(velocity: Velocity, x_t: Tensor, dx_t: Tensor, t: Tensor, r: float = 1.0) -> Tensor:
    """g of any F, as the method computes it."""
    scaled, dt = x_t / SIGMA_DATA, t.cos() * t.sin()
    change = directional_derivative(velocity, scaled, t, dt[:, None] * dx_t / SIGMA_DATA, dt)
    return tangent(velocity(scaled, t), change, x_t, dx_t, t, SIGMA_DATA, r)


# The arc ------------------------------------------------------------------------------------------


def test_an_edm_network_is_a_trigflow_network_of_the_other_sign() -> None:
    denoiser = tiny_denoiser().double()
    x0 = torch.randn(64, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sigma = torch.linspace(-4, 4, 64, dtype=torch.float64).exp()
    t = (sigma / denoiser.sigma_data).atan()
    cos, sin = t.cos().reshape(-1, 1, 1, 1), t.sin().reshape(-1, 1, 1, 1)
    x_t = cos * x0 * 2
    network = denoiser.velocity(x_t / denoiser.sigma_data, t, {"label": torch.arange(64) % 2})
    expected = denoiser(x_t / cos, sigma, {"label": torch.arange(64) % 2})
    found = cos * x_t - sin * denoiser.sigma_data * network
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # c_noise is float64 -> 32


def test_a_trigflow_denoiser_is_what_its_velocity_says() -> None:
    denoiser = TrigFlowDenoiser(tiny_denoiser().network, 0.5, 0.02, 20.0, time_scale=1.5).double()
    sigma = torch.linspace(-4, 4, 8, dtype=torch.float64).exp()
    t = (sigma / 0.5).atan()
    x = torch.randn(8, 1, 4, 4, dtype=torch.float64)
    cos, sin = t.cos().reshape(-1, 1, 1, 1), t.sin().reshape(-1, 1, 1, 1)
    network = denoiser.network(cos * x / 0.5, 1.5 * t)
    assert torch.equal(denoiser.velocity(cos * x / 0.5, t), network)
    torch.testing.assert_close(denoiser(x, sigma), cos**2 * x - sin * 0.5 * network)


def test_a_student_is_the_identity_without_noise() -> None:
    x = torch.randn(5, 1, 4, 4)
    edm = tiny_denoiser()
    trig = TrigFlowDenoiser(edm.network, 0.5, 0.02, 20.0)
    assert trig.boundary == edm.boundary == 0.0
    assert torch.equal(trig(x, torch.tensor(0.0)), x)
    torch.testing.assert_close(edm(x, torch.tensor(1e-12)), x, rtol=0, atol=1e-11)


def test_the_velocity_of_a_teacher_is_the_derivative_of_its_ode() -> None:
    # x_t = cos t x with x on the ODE: known in closed form for a Gaussian.
    start, t = points(), times()

    def state(t: Tensor) -> Tensor:
        sigma = (SIGMA_DATA * t.tan())[:, None]
        return t.cos()[:, None] * (MEAN + (1 + (sigma / STD) ** 2).sqrt() * (start - MEAN))

    _, expected = torch.func.jvp(state, (t,), (torch.ones_like(t),))
    found = teacher_velocity(oracle(), state(t), t, SIGMA_DATA)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_velocity_of_an_edm_teacher_is_sigma_data_f() -> None:
    teacher = tiny_denoiser().double()
    x_t, t = torch.randn(64, 1, 4, 4, dtype=torch.float64), times()
    found = teacher_velocity(teacher, x_t, t, 0.5)
    expected = 0.5 * teacher.velocity(x_t / 0.5, t)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# The tangent --------------------------------------------------------------------------------------


def test_the_tangent_of_the_exact_function_is_zero() -> None:
    x_t, t = points(), times()
    dx_t = teacher_velocity(oracle(), x_t, t, SIGMA_DATA)
    g = tangent_of(exact_velocity, x_t, dx_t, t)
    torch.testing.assert_close(g, torch.zeros_like(g), rtol=0, atol=1e-12)
    # Not so in its halves: the test is not one of nothing.
    assert tangent_of(exact_velocity, x_t, dx_t, t, 0.0).abs().max() > 0.1


def test_the_tangent_from_data_is_zero_on_average_at_the_exact_function() -> None:
    # 400,000 pairs that pass through one region: E[g | x_t, t] = 0, so E[g h(x_t)] = 0 for any h.
    source = torch.Generator().manual_seed(3)
    x0 = MEAN + STD * torch.randn(400_000, 3, generator=source, dtype=torch.float64)
    z = SIGMA_DATA * torch.randn(400_000, 3, generator=source, dtype=torch.float64)
    t = torch.full((400_000,), 0.9, dtype=torch.float64)
    x_t, dx_t = math.cos(0.9) * x0 + math.sin(0.9) * z, math.cos(0.9) * z - math.sin(0.9) * x0
    for g in (
        tangent_of(exact_velocity, x_t, dx_t, t),
        limited(tangent_of(exact_velocity, x_t, dx_t, t)),
    ):
        assert g.std() > 0.1
        for test in (torch.ones_like(x_t), x_t, x_t**2):
            mean = (g * test).mean()
            assert abs(mean) < 4 * (g * test).std() / math.sqrt(g.numel())


def test_the_tangent_is_cos_t_times_the_derivative_of_f_along_the_ode() -> None:
    network = tiny_denoiser().double().velocity
    t = times(16)
    x_t = torch.randn(16, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    dx_t = x_t.flip(0) * 0.7

    def f(h: float) -> Tensor:
        moved, time = x_t + h * dx_t, t + h
        cos, sin = time.cos().reshape(-1, 1, 1, 1), time.sin().reshape(-1, 1, 1, 1)
        return cos * moved - sin * SIGMA_DATA * network(moved / SIGMA_DATA, time)

    # The network takes its noise number in float32 at least; in float64 only if t passes it so.
    dt = (t.cos() * t.sin()).reshape(-1, 1, 1, 1)
    scaled = x_t / SIGMA_DATA
    change = directional_derivative(network, scaled, t, dt * dx_t / SIGMA_DATA, dt.flatten())
    g = tangent(network(scaled, t), change, x_t, dx_t, t, SIGMA_DATA)
    h = 2e-6
    expected = t.cos().reshape(-1, 1, 1, 1) * (f(h) - f(-h)) / (2 * h)
    torch.testing.assert_close(g, expected, rtol=1e-6, atol=1e-6)


def test_without_its_second_term_the_tangent_points_at_the_teacher() -> None:
    x_t, t = points(), times()
    dx_t = teacher_velocity(oracle(), x_t, t, SIGMA_DATA)
    diffusion = dx_t / SIGMA_DATA
    g = tangent(diffusion, torch.full_like(x_t, 7.0), x_t, dx_t, t, SIGMA_DATA, share=0.0)
    torch.testing.assert_close(g, torch.zeros_like(g), rtol=0, atol=1e-15)


@pytest.mark.parametrize("network", ["mlp", "unet", "trigflow"])
def test_the_exact_derivative_is_the_limit_of_the_central_difference(network: str) -> None:
    torch.manual_seed(0)
    t = times(6)
    if network == "unet":
        # With attention, whose fused kernels have no forward-mode derivative.
        made = UNet2D(8, 1, block_out_channels=(8, 8), attention=[False, True], noise_scale=1.0)
        denoiser: Denoiser = EDMDenoiser(made)
        x = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    else:
        wrapper = EDMDenoiser if network == "mlp" else TrigFlowDenoiser
        denoiser = wrapper(tiny_denoiser().network)
        x = torch.randn(6, 1, 4, 4, dtype=torch.float64)
    denoiser.double()
    dx, dt = torch.randn_like(x), t.cos() * t.sin()
    exact = directional_derivative(denoiser.velocity, x, t, dx, dt)
    central = directional_derivative(denoiser.velocity, x, t, dx, dt, "finite_difference", 1e-5)
    assert not exact.requires_grad
    assert exact.norm() > 0.1
    tolerance = 1e-3 if network == "unet" else 1e-7  # diffusers embeds time in float32
    torch.testing.assert_close(central, exact, rtol=tolerance, atol=tolerance)


def test_the_central_difference_is_near_in_float32_with_its_default_step() -> None:
    denoiser, t = tiny_denoiser(), times(32)
    x, dt = torch.randn(32, 1, 4, 4), t.cos() * t.sin()
    dx = torch.randn_like(x) * dt.float().reshape(-1, 1, 1, 1)
    exact = directional_derivative(denoiser.velocity, x, t, dx, dt)
    central = directional_derivative(denoiser.velocity, x, t, dx, dt, "finite_difference")
    assert (central - exact).norm() < 1e-3 * exact.norm()


def test_the_points_of_the_central_difference_stay_on_the_arc() -> None:
    t = times(1000)
    for h in (5e-3, 1.0):
        assert (t - h * t.cos() * t.sin() > 0).all()
        assert (t + h * t.cos() * t.sin() < math.pi / 2).all()


def test_the_warm_up_lets_the_second_term_in() -> None:
    shares = [warmup_share(k, 10_000) for k in (0, 1, 2_500, 10_000, 400_000)]
    assert shares == [0.0, 1e-4, 0.25, 1.0, 1.0]
    assert warmup_share(0, 0) == 1.0
    x_t, t = points(), times()
    dx_t = points(seed=1)
    first, last = (tangent_of(exact_velocity, x_t, dx_t, t, r) for r in (0.0, 1.0))
    half = tangent_of(exact_velocity, x_t, dx_t, t, 0.5)
    torch.testing.assert_close(half, (first + last) / 2)


def test_a_tangent_is_normalised_over_the_sample_or_clipped() -> None:
    g = torch.tensor([[[3.0], [4.0]], [[0.0], [0.1]], [[0.0], [0.0]]])
    expected = torch.tensor([[[3 / 5.1], [4 / 5.1]], [[0.0], [0.5]], [[0.0], [0.0]]])
    torch.testing.assert_close(limited(g), expected)
    assert limited(g, c=0.0)[0].norm() == 1.0
    assert torch.equal(limited(torch.tensor([[3.0, -0.2, -1.5]]), "clip").flatten()[[0, 2]],
                       torch.tensor([1.0, -1.0]))  # fmt: skip
    assert limited(torch.tensor([[3.0, -0.2]]), "clip")[0, 1] == torch.tensor(-0.2)
