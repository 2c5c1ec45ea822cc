import math

import pytest
import torch
from torch import nn

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import PREDICTIONS, FlowDenoiser, VPDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser, EDMDenoiser, GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.schedules import alphas_cumprod_of
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.networks.mlp import ScaleShiftMLP

SCHEDULES = ("linear", "scaled_linear", "cosine")
MEANS = torch.tensor([[-1.0, 0.5], [0.8, -0.2], [0.3, 1.1]], dtype=torch.float64)
VARIANCES = torch.tensor([0.04, 0.01, 0.09], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def mixture(**kwargs):
    return MixtureDenoiser(
        MEANS.tolist(), VARIANCES.tolist(), WEIGHTS.tolist(), sigma_max=1e5, **kwargs
    )


def points(count=7, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, generator=generator, dtype=torch.float64) * scale


class Raw(nn.Module):
    """Records what it is shown and answers with a fixed function of it."""

    def forward(self, x, noise, condition=None):
        self.seen = x, noise, condition
        return x.sin() + noise.reshape(-1, 1)


class PosteriorNetwork(nn.Module):
    """Exact network for ``z = a x0 + b eps``, derived in its own coordinates."""

    def __init__(self, coefficients, output):
        super().__init__()
        self.coefficients, self.output = coefficients, output

    def forward(self, z, noise, condition=None):
        a, b = (value.reshape(-1, 1) for value in self.coefficients(noise))
        law = torch.distributions.Normal(
            (a[..., None] * MEANS), (a**2 * VARIANCES + b**2).sqrt()[..., None]
        )
        log_weight = WEIGHTS.log() + law.log_prob(z[:, None]).sum(-1)
        gain = a * VARIANCES / (a**2 * VARIANCES + b**2)
        mean = MEANS + gain[..., None] * (z[:, None] - a[..., None] * MEANS)
        x0 = (log_weight.softmax(1)[..., None] * mean).sum(1)
        eps = (z - a * x0) / b
        return {
            "sample": x0,
            "epsilon": eps,
            "v_prediction": a * eps - b * x0,
            "velocity": eps - x0,
        }[self.output]


# EDM and consistency preconditioning --------------------------------------------------------


def test_edm_preconditioning_by_hand():
    # sigma_data 0.5, sigma 1.2: total = 1.3, c_skip = 25/169, c_out = 6/13, c_in = 10/13.
    network = Raw()
    x = points()
    estimate = EDMDenoiser(network, sigma_data=0.5)(x, torch.tensor(1.2, dtype=torch.float64))
    seen, noise, _ = network.seen
    torch.testing.assert_close(seen, x * 10 / 13, rtol=1e-14, atol=0)
    torch.testing.assert_close(noise, torch.full((7,), math.log(1.2) / 4).double())
    raw = (x * 10 / 13).sin() + math.log(1.2) / 4
    torch.testing.assert_close(estimate, x * 25 / 169 + raw * 6 / 13, rtol=1e-13, atol=1e-13)


def test_edm_of_one_gaussian_centred_at_zero_needs_no_network():
    # For x0 ~ N(0, sigma_data^2) the posterior mean is c_skip * x: the best F is 0.
    class Zero(nn.Module):
        def forward(self, x, noise, condition=None):
            return torch.zeros_like(x)

    x, sigma = points(), torch.logspace(-2, 2, 7, dtype=torch.float64)
    oracle = MixtureDenoiser([[0.0, 0.0]], 0.25)
    torch.testing.assert_close(EDMDenoiser(Zero(), 0.5)(x, sigma), oracle(x, sigma))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_consistency_denoiser_is_the_identity_at_sigma_min(dtype):
    x = points().to(dtype)
    denoiser = ConsistencyDenoiser(Raw(), sigma_data=0.5, sigma_min=0.002)
    assert torch.equal(denoiser(x, torch.tensor(0.002, dtype=torch.float64)), x)
    assert not torch.equal(denoiser(x, torch.tensor(0.003, dtype=torch.float64)), x)


def test_consistency_preconditioning_by_hand():
    # above = 0.5 with sigma_data 0.5: c_skip = 1/2, c_out = 0.25 / sqrt(0.7^2 + 0.5^2).
    network, x = Raw(), points()
    estimate = ConsistencyDenoiser(network, 0.5, sigma_min=0.2)(
        x, torch.tensor(0.7, dtype=torch.float64)
    )
    total = math.sqrt(0.74)
    raw = (x / total).sin() + math.log(0.7) / 4
    torch.testing.assert_close(estimate, x / 2 + raw * 0.25 / total, rtol=1e-13, atol=1e-13)


# Variance-preserving and flow networks ------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_vp_wrapper_of_an_exact_network_is_the_oracle(schedule, prediction):
    alpha_bar = alphas_cumprod_of(schedule)

    def coefficients(timestep):
        value = alpha_bar[timestep.long()]
        return value.sqrt(), (1 - value).sqrt()

    denoiser = VPDenoiser(PosteriorNetwork(coefficients, prediction), schedule, prediction)
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt()[[0, 5, 200, 500, 800, 950, 999]]
    x = points() * (1 + sigma[:, None])
    torch.testing.assert_close(denoiser(x, sigma), mixture()(x, sigma), rtol=0, atol=1e-6)


def test_flow_wrapper_of_an_exact_network_is_the_oracle():
    denoiser = FlowDenoiser(
        PosteriorNetwork(lambda t: (1 - t / 1000, t / 1000), "velocity"), time_scale=1000
    )
    sigma = torch.logspace(-2, 2, 7, dtype=torch.float64)
    x = points() * (1 + sigma[:, None])
    torch.testing.assert_close(denoiser(x, sigma), mixture()(x, sigma), rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_timesteps_of_the_schedule_are_exact_integers(schedule, dtype):
    alpha_bar = alphas_cumprod_of(schedule)
    sigmas = ((1 - alpha_bar) / alpha_bar).sqrt().to(dtype)
    denoiser = VPDenoiser(nn.Identity(), schedule).to(torch.bfloat16)
    assert torch.equal(denoiser.timestep(sigmas), torch.arange(1000, dtype=torch.float64))


def test_timestep_between_and_beyond_the_schedule():
    denoiser = VPDenoiser(nn.Identity(), [0.9, 0.5, 0.1])
    middle = (3.0 * 1.0) ** 0.5  # geometric mean of sigma(0.5) = 1 and sigma(0.1) = 3
    sigma = torch.tensor([middle, 1e-9, 1e9], dtype=torch.float64)
    torch.testing.assert_close(denoiser.timestep(sigma), torch.tensor([1.5, 0, 2]).double())


def test_noise_number_is_not_rounded_to_the_precision_of_the_network():
    class Half(Raw):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

    network = Half()
    denoiser = VPDenoiser(network, "linear")
    denoiser(points().float(), torch.tensor(denoiser.sigma_max, dtype=torch.float64))
    seen, noise, _ = network.seen
    assert seen.dtype == torch.bfloat16
    assert torch.equal(noise, torch.full((7,), 999.0))


def test_bfloat16_network_runs_and_answers_in_the_precision_of_its_input():
    network = ScaleShiftMLP((2,), 8, 1, embedding=8).bfloat16()
    assert EDMDenoiser(network)(points().float(), torch.tensor(1.0)).dtype == torch.float32


@pytest.mark.parametrize(
    ("denoiser", "scale"),
    [
        (EDMDenoiser(Raw()), 3.0),
        (VPDenoiser(Raw()), math.sqrt(10)),
        (FlowDenoiser(Raw()), 4.0),
    ],
)
def test_prior_shows_the_network_what_it_was_trained_on(denoiser, scale):
    noise = points()
    start = denoiser.prior(noise, torch.tensor(3.0))
    torch.testing.assert_close(start, noise * scale)
    if not isinstance(denoiser, EDMDenoiser):
        denoiser(start, torch.tensor(3.0))
        torch.testing.assert_close(denoiser.network.seen[0], noise)


def test_wrong_prediction_and_wrong_range_are_named():
    with pytest.raises(InputError, match=r"prediction: expected one of .* found 'x0'"):
        VPDenoiser(nn.Identity(), "linear", "x0")
    with pytest.raises(InputError, match="sigma_min"):
        EDMDenoiser(nn.Identity(), sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(InputError, match="1 variances and 2 weights"):
        MixtureDenoiser([[0.0], [1.0]], [1.0], [0.5, 0.5])


# Guidance -----------------------------------------------------------------------------------


def test_guidance_scale_one_is_none_and_the_answer_is_linear_in_the_scale():
    oracle, x, sigma = mixture(labelled=True), points(), torch.tensor(0.7)
    condition = {"label": torch.tensor([0, 1, 2, 0, 1, 2, 0])}
    plain, none = oracle(x, sigma, condition), oracle(x, sigma)
    assert torch.equal(GuidedDenoiser(oracle, 1.0)(x, sigma, condition), plain)
    assert torch.equal(GuidedDenoiser(oracle, 3.0)(x, sigma), none)
    for scale in (-1.0, 0.0, 0.3, 2.0, 7.5):
        guided = GuidedDenoiser(oracle, scale)(x, sigma, condition)
        torch.testing.assert_close(guided, none + scale * (plain - none))


def test_guidance_costs_a_second_network_call():
    oracle = mixture(labelled=True)
    generator = Generator(GuidedDenoiser(oracle, 2.0), KarrasGrid(), (2,), "heun")
    assert generator.evaluations(18) == 70
    assert GuidedDenoiser(oracle, 1.0).network_calls == 1
    assert GuidedDenoiser(mixture(labelled=False), 2.0).network_calls == 1


def test_guidance_keeps_the_rest_of_the_condition_and_passes_the_prior_on():
    network = Raw()
    guided = GuidedDenoiser(VPDenoiser(network), 2.0)
    augment = torch.ones(7, 5)
    guided(points(), torch.tensor(1.0), {"label": torch.zeros(7).long(), "augment": augment})
    assert network.seen[2] == {"augment": augment}
    noise = points()
    assert torch.equal(
        guided.prior(noise, torch.tensor(2.0)), guided.denoiser.prior(noise, torch.tensor(2.0))
    )


# The oracle ---------------------------------------------------------------------------------


def test_mixture_against_a_numeric_posterior_mean():
    # One dimension, the integrals E[x0 | x] by the trapezoidal rule.
    means, variances, weights, sigma = [-1.0, 0.4], [0.04, 0.25], [0.3, 0.7], 0.6
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    prior = sum(
        w * torch.exp(-((grid - m) ** 2) / (2 * v)) / v**0.5
        for m, v, w in zip(means, variances, weights, strict=True)
    )
    x = torch.tensor([[-2.0], [-0.5], [0.0], [1.7]], dtype=torch.float64)
    posterior = prior * torch.exp(-((x - grid) ** 2) / (2 * sigma**2))
    expected = torch.trapezoid(posterior * grid, grid) / torch.trapezoid(posterior, grid)
    oracle = MixtureDenoiser([[m] for m in means], variances, weights)
    estimate = oracle(x, torch.tensor(sigma, dtype=torch.float64))
    torch.testing.assert_close(estimate[:, 0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_tweedie(sigma):
    # D = x + sigma^2 * grad log p_sigma(x) (Robbins 1956; Efron 2011).
    x = points().requires_grad_()
    law = torch.distributions.Normal(MEANS, (VARIANCES + sigma**2).sqrt()[:, None])
    density = torch.logsumexp(WEIGHTS.log() + law.log_prob(x[:, None]).sum(-1), 1)
    (score,) = torch.autograd.grad(density.sum(), x)
    expected = x.detach() + sigma**2 * score
    estimate = mixture()(x.detach(), torch.tensor(sigma, dtype=torch.float64))
    torch.testing.assert_close(estimate, expected, rtol=1e-9, atol=1e-9)


def test_single_gaussian_in_closed_form():
    oracle = MixtureDenoiser([[1.0, -2.0]], 0.25)
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    x, sigma = points(scale=3), torch.logspace(-2, 1, 7, dtype=torch.float64)
    expected = (0.25 * x + sigma[:, None] ** 2 * mean) / (0.25 + sigma[:, None] ** 2)
    torch.testing.assert_close(oracle(x, sigma), expected)


def test_limits_of_the_oracle():
    x = points()
    torch.testing.assert_close(mixture()(x, torch.tensor(1e-6)), x, rtol=0, atol=1e-8)
    far = mixture()(x * 1e5, torch.tensor(1e5))
    assert far.isfinite().all()
    expected = (WEIGHTS[:, None] * MEANS).sum(0).expand(7, 2)
    torch.testing.assert_close(mixture()(x, torch.tensor(1e5)), expected, rtol=0, atol=1e-6)


def test_labelled_oracle_is_the_oracle_of_its_component():
    x, sigma = points(), torch.tensor(0.8, dtype=torch.float64)
    oracle = mixture(labelled=True)
    assert oracle.num_classes == 3
    assert mixture().num_classes == 0
    for k in range(3):
        alone = MixtureDenoiser([MEANS[k].tolist()], [float(VARIANCES[k])])
        estimate = oracle(x, sigma, {"label": torch.full((7,), k)})
        torch.testing.assert_close(estimate, alone(x, sigma))
    anyone = oracle(x, sigma, {"label": torch.full((7,), 3)})
    assert torch.equal(anyone, oracle(x, sigma))


def test_draw_has_the_moments_of_the_mixture():
    draw, label = mixture().draw(200_000, torch.Generator().manual_seed(1))
    share = torch.bincount(label).double() / len(label)
    torch.testing.assert_close(share, WEIGHTS, rtol=0, atol=0.005)
    mean = (WEIGHTS[:, None] * MEANS).sum(0)
    second = (WEIGHTS[:, None] * (MEANS**2 + VARIANCES[:, None])).sum(0)
    torch.testing.assert_close(draw.double().mean(0), mean, rtol=0, atol=0.006)
    torch.testing.assert_close(draw.double().square().mean(0), second, rtol=0, atol=0.008)


# Files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "denoiser",
    [
        mixture(labelled=True),
        GuidedDenoiser(mixture(labelled=True), 2.5),
        EDMDenoiser(ScaleShiftMLP((2,), 8, 1, embedding=8), sigma_data=0.7),
        VPDenoiser(ScaleShiftMLP((2,), 8, 1, embedding=8), "cosine", "v_prediction"),
        FlowDenoiser(ScaleShiftMLP((2,), 8, 1, embedding=8), time_scale=10.0),
        ConsistencyDenoiser(ScaleShiftMLP((2,), 8, 1, embedding=8), sigma_min=0.01),
    ],
)
def test_a_denoiser_is_rebuilt_from_its_spec(denoiser):
    again = build(spec_of(denoiser))
    again.load_state_dict(denoiser.state_dict())
    x, condition = points().float(), {"label": torch.tensor([0, 1, 2, 0, 1, 2, 0])}
    sigma = torch.tensor(0.9)
    assert torch.equal(again(x, sigma, condition), denoiser(x, sigma, condition))
    assert spec_of(again) == spec_of(denoiser)
