"""Samplers against closed forms, and against diffusers' own schedulers with the same oracle."""

import diffusers
import pytest
import torch

from kdlight.diffusion.generator import Generator, draw_labels
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import (
    SAMPLERS,
    euler_step,
    function_evaluations,
    heun_correction,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
)
from kdlight.diffusion.schedules import alphas_cumprod_of, sigma_from_alpha_bar
from kdlight.diffusion.sigmas import FixedGrid, KarrasGrid, TrailingGrid
from kdlight.errors import InputError

MEAN, STD = 0.7, 0.5
GAUSSIAN = MixtureDenoiser([[MEAN]], STD**2)
MIXTURE = MixtureDenoiser([[-1.0, 0.5], [0.8, -0.2], [0.3, 1.1]], [0.04, 0.01, 0.09])


def unit_noise(count, dim, seed=0):
    return torch.randn(
        count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def exact(x, sigma, sigma_end):
    """The ODE of one Gaussian: the offset from the mean shrinks with the total spread."""
    shrink = ((STD**2 + sigma_end**2) / (STD**2 + sigma**2)) ** 0.5
    return MEAN + (x - MEAN) * shrink


class Counting(MixtureDenoiser):
    """The mixture, counting its calls."""

    def __init__(self):
        super().__init__([[0.0]], 1.0)
        self.calls = 0

    def forward(self, x, sigma, condition=None):
        self.calls += 1
        return super().forward(x, sigma, condition)


# Closed forms -------------------------------------------------------------------------------


def test_euler_step_by_hand():
    x, x0 = torch.tensor([[5.0]]), torch.tensor([[1.0]])
    half = euler_step(x, x0, torch.tensor(2.0), torch.tensor(1.0))
    assert half.tolist() == [[3.0]]
    assert torch.equal(euler_step(x, x0, torch.tensor(2.0), torch.tensor(0.0)), x0)
    assert torch.equal(euler_step(x, x0, torch.tensor(2.0), torch.tensor(2.0)), x)


def test_heun_correction_by_hand():
    # Slopes (5 - 1) / 2 = 2 and (3 - 2) / 1 = 1; step -1 with their average.
    x, x0, x_next, x0_next = (torch.tensor([[value]]) for value in (5.0, 1.0, 3.0, 2.0))
    x_new = heun_correction(x, x0, x0_next, x_next, torch.tensor(2.0), torch.tensor(1.0))
    assert x_new.tolist() == [[3.5]]


@pytest.mark.parametrize(
    ("sampler", "order"), [(sample_euler, 1), (sample_heun, 2), (sample_dpmpp_2m, 2)]
)
def test_order_of_convergence(sampler, order):
    x = torch.tensor([[25.0], [-11.0]], dtype=torch.float64)

    def error(steps):
        levels = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
        return float((sampler(GAUSSIAN, x, levels) - exact(x, 10.0, 0.1)).abs().max())

    errors = torch.tensor([error(steps) for steps in (80, 160, 320)], dtype=torch.float64)
    orders = (errors[:-1] / errors[1:]).log2()
    torch.testing.assert_close(orders, torch.full((2,), float(order)).double(), rtol=0, atol=0.08)


def test_heun_reaches_the_data():
    x = 80 * unit_noise(64, 1)
    end = sample_heun(GAUSSIAN, x, KarrasGrid().sigmas(200))
    torch.testing.assert_close(end, exact(x, 80.0, 0.0), rtol=0, atol=1e-3)


def test_the_ode_brings_the_prior_to_the_law_of_the_data():
    x = 80 * unit_noise(100_000, 1)
    end = sample_dpmpp_2m(GAUSSIAN, x, KarrasGrid().sigmas(60))
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(end.std()) == pytest.approx(STD, abs=0.005)


def test_ancestral_walk_of_a_point_keeps_the_marginal_level_exactly():
    # D is the point itself, so each level's variance is down^2 + up^2 = sigma_next^2.
    point = MixtureDenoiser([[0.3]], 0.0)
    levels = torch.tensor([10.0, 4.0, 1.5, 0.6], dtype=torch.float64)
    spreads = []
    sample_euler_ancestral(
        point,
        0.3 + 10 * unit_noise(200_000, 1),
        levels,
        callback=lambda step, sigma, x, x0: spreads.append(float(x.std())),
        generator=torch.Generator().manual_seed(1),
    )
    assert spreads == pytest.approx([4.0, 1.5, 0.6], rel=0.01)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ancestral_variance_of_a_gaussian_follows_the_linear_recursion(eta):
    levels = torch.tensor([10.0, 6.0, 3.0, 1.5, 0.7, 0.3, 0.0], dtype=torch.float64)
    variance, expected = STD**2 + 100.0, []
    for sigma, sigma_next in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        up = eta * sigma_next * (1 - (sigma_next / sigma) ** 2) ** 0.5
        down = (sigma_next**2 - up**2) ** 0.5
        shrink = STD**2 / (STD**2 + sigma**2)
        variance = (shrink + down / sigma * (1 - shrink)) ** 2 * variance + up**2
        expected.append(variance)
    found = []
    sample_euler_ancestral(
        GAUSSIAN,
        MEAN + (STD**2 + 100) ** 0.5 * unit_noise(200_000, 1),
        levels,
        callback=lambda step, sigma, x, x0: found.append(float(x.var())),
        eta=eta,
        generator=torch.Generator().manual_seed(2),
    )
    assert found == pytest.approx(expected, rel=0.02)


def test_ancestral_walk_of_many_steps_reaches_the_law_of_the_data():
    end = sample_euler_ancestral(
        GAUSSIAN,
        80 * unit_noise(20_000, 1),
        KarrasGrid().sigmas(200),
        generator=torch.Generator().manual_seed(3),
    )
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(end.std()) == pytest.approx(STD, rel=0.03)


def test_ancestral_without_noise_is_euler():
    x, levels = 10 * unit_noise(5, 2), KarrasGrid(0.01, 10).sigmas(6)
    assert torch.equal(
        sample_euler_ancestral(MIXTURE, x, levels, eta=0.0), sample_euler(MIXTURE, x, levels)
    )


def test_first_two_multistep_steps_by_hand():
    # The second step extrapolates D by h / (2 h_last), here 1/2 on a geometric grid.
    x = torch.tensor([[4.0]], dtype=torch.float64)
    levels = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    d1 = GAUSSIAN(x, levels[0])
    x1 = d1 + (x - d1) / 2
    d2 = GAUSSIAN(x1, levels[1])
    extrapolated = d2 + (d2 - d1) / 2
    expected = extrapolated + (x1 - extrapolated) / 2
    torch.testing.assert_close(sample_dpmpp_2m(GAUSSIAN, x, levels), expected)


# diffusers ----------------------------------------------------------------------------------

SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    },
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


def predict(scheduler, sigma, x, prediction="epsilon"):
    """What an exact network would tell a scheduler whose state is the noisy ``x``."""
    x0 = MIXTURE(x, sigma)
    eps = (x - x0) / sigma
    alpha = (1 + sigma**2).rsqrt()
    return {
        "epsilon": eps,
        "sample": x0,
        "v_prediction": alpha * eps - sigma * alpha * x0,
    }[prediction]


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20])
def test_euler_is_ddim(name, steps, prediction):
    scheduler = diffusers.DDIMScheduler(
        **SCHEDULES[name],
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type=prediction,
    )
    # In float64, to compare the arithmetic and not the rounding.
    scheduler.alphas_cumprod = alphas_cumprod_of(name)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    table = sigma_from_alpha_bar(scheduler.alphas_cumprod)
    z = noise = unit_noise(16, 2)
    for timestep in scheduler.timesteps:
        sigma = table[timestep]
        output = predict(scheduler, sigma, z * (1 + sigma**2).sqrt(), prediction)
        z = scheduler.step(output, timestep, z, eta=0.0).prev_sample
    levels = TrailingGrid(name).sigmas(steps)
    ours = sample_euler(MIXTURE, MIXTURE.prior(noise, levels[0]) * start_ratio(levels[0]), levels)
    torch.testing.assert_close(ours, z, rtol=1e-7, atol=1e-7)


def start_ratio(sigma):
    """VP networks start from ``sqrt(1 + sigma^2)`` rather than ``sigma`` times the noise."""
    return (1 + sigma**2).sqrt() / sigma


def walk_sigma_space(scheduler, steps, **step_arguments):
    """Run a scheduler whose state is the noisy ``x`` itself; returns start, levels and end."""
    scheduler.set_timesteps(steps)
    noise = unit_noise(16, 2)
    x = noise * scheduler.init_noise_sigma
    start = x
    for index, timestep in enumerate(scheduler.timesteps):
        z = scheduler.scale_model_input(x, timestep)
        sigma = scheduler.sigmas[index].double()
        torch.testing.assert_close(z, x / (1 + sigma**2).sqrt(), rtol=1e-5, atol=1e-6)
        x = scheduler.step(
            predict(scheduler, sigma, x.double()), timestep, x, **step_arguments
        ).prev_sample
    return start, scheduler.sigmas.double(), x.double()


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_euler_is_the_euler_discrete_scheduler(steps, karras):
    scheduler = diffusers.EulerDiscreteScheduler(
        timestep_spacing="trailing", use_karras_sigmas=karras
    )
    start, levels, end = walk_sigma_space(scheduler, steps)
    # It keeps its state in float32, at a level of 157.
    torch.testing.assert_close(sample_euler(MIXTURE, start, levels), end, rtol=0, atol=2e-5)


@pytest.mark.parametrize("steps", [2, 5, 12])
def test_heun_is_the_heun_discrete_scheduler(steps):
    scheduler = diffusers.HeunDiscreteScheduler(
        beta_start=0.0001, beta_end=0.02, timestep_spacing="trailing"
    )
    start, doubled, end = walk_sigma_space(scheduler, steps)
    assert len(scheduler.timesteps) == function_evaluations("heun", steps)
    # It lists every inner level twice, once for each half of a step.
    levels = torch.cat([doubled[:1], doubled[1:-1:2], doubled[-1:]])
    torch.testing.assert_close(sample_heun(MIXTURE, start, levels), end, rtol=0, atol=2e-5)


@pytest.mark.parametrize("steps", [2, 5, 12])
def test_ancestral_is_the_euler_ancestral_scheduler(steps):
    scheduler = diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing")
    start, levels, end = walk_sigma_space(
        scheduler, steps, generator=torch.Generator().manual_seed(9)
    )
    # It draws in the precision of the network, here float64, and once more at the last step.
    ours = sample_euler_ancestral(
        MIXTURE, start, levels, generator=torch.Generator().manual_seed(9)
    )
    torch.testing.assert_close(ours, end, rtol=0, atol=5e-5)


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 20])
@pytest.mark.parametrize("karras", [False, True])
def test_dpmpp_2m_is_the_multistep_scheduler(steps, karras):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        use_karras_sigmas=karras,
    )
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas.double()
    z = noise = unit_noise(16, 2)
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = levels[index]
        output = predict(scheduler, sigma, z.double() * (1 + sigma**2).sqrt())
        z = scheduler.step(output, timestep, z).prev_sample
    start = noise * (1 + levels[0] ** 2).sqrt()
    ours = sample_dpmpp_2m(MIXTURE, start, levels)
    torch.testing.assert_close(ours, z.double(), rtol=0, atol=1e-4)


# Interface ----------------------------------------------------------------------------------


# A jump takes a flow map: tests/modules/diffusion/test_mean_flow.py.
@pytest.mark.parametrize("algorithm", sorted(set(SAMPLERS) - {"jump"}))
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_calls_callbacks_and_precision(algorithm, steps):
    denoiser = Counting()
    levels = KarrasGrid().sigmas(steps)
    seen = []
    end = SAMPLERS[algorithm](
        denoiser,
        80 * unit_noise(3, 1).float(),
        levels,
        callback=lambda step, sigma, x, x0: seen.append((step, sigma, x, x0)),
    )
    assert denoiser.calls == function_evaluations(algorithm, steps)
    assert [entry[:2] for entry in seen] == list(enumerate(levels[:-1].tolist()))
    assert end.dtype == torch.float32
    assert torch.equal(seen[-1][2], end)
    # The last step goes to 0 and is the last estimate, whatever the sampler.
    assert torch.equal(seen[-1][3], end)


def test_generator_starts_from_the_prior_and_refuses_other_step_counts():
    noise = unit_noise(4, 2)
    levels = KarrasGrid().sigmas(6)
    generator = Generator(MIXTURE, KarrasGrid(), (2,), "dpmpp_2m", steps=(6, 3))
    assert torch.equal(generator(noise), sample_dpmpp_2m(MIXTURE, noise * 80, levels))
    assert generator(noise, steps=4).shape == (4, 2)
    student = Generator(MIXTURE, FixedGrid([80.0, 1.0]), (2,), "euler", steps=(2,), any_steps=False)
    assert student(noise).shape == (4, 2)
    with pytest.raises(InputError, match="this student samples in 2 steps, found 3"):
        student(noise, steps=3)
    with pytest.raises(InputError, match="algorithm: expected one of"):
        Generator(MIXTURE, KarrasGrid(), (2,), "rk4")


def test_labels_go_round_and_batches_continue():
    assert draw_labels(5, 3)["label"].tolist() == [0, 1, 2, 0, 1]
    assert draw_labels(3, 3, offset=5)["label"].tolist() == [2, 0, 1]
    assert draw_labels(3, 0) == {}
