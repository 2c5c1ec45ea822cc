"""Score distillation in closed form: Gaussians and mixtures whose scores are known."""

import pytest
import torch

from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.errors import InputError
from kdlight.losses.adversarial import discriminator_loss, generator_loss
from kdlight.losses.scores import (
    F_DIVERGENCES,
    DistributionMatching,
    IntegralKL,
    ScoreIdentity,
    divergence_weight,
    normaliser,
    over_mean_at_like_noise,
    require_divergence,
)

OBJECTIVES = [
    IntegralKL(),
    IntegralKL(power=0.0),
    DistributionMatching(),
    ScoreIdentity(),
    ScoreIdentity(alpha=1.0),
    ScoreIdentity(through_denoisers=False),
]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)


def gaussian(mean, variance):
    return MixtureDenoiser([[mean]], variances=variance).double()


REAL = MixtureDenoiser([[-0.6, 0.1], [0.5, 0.3], [0.2, -0.7]], variances=0.04).double()
FAKE = MixtureDenoiser([[-0.3, 0.2], [0.4, -0.2]], variances=0.09).double()


def samples(count=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    eps = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    sigma = torch.logspace(-1, 0.5, count, dtype=torch.float64)
    return x.requires_grad_(), eps, sigma


def gradient(objective, x, eps, sigma, real=REAL, fake=FAKE):
    """The gradient of the summed loss at the samples, (B, d)."""
    noisy = x + sigma[:, None] * eps
    with torch.set_grad_enabled(objective.through_denoisers):
        estimates = real(noisy, sigma), fake(noisy, sigma)
    loss = objective(x, *estimates, sigma)
    assert loss.shape == (len(x),)
    return torch.autograd.grad(loss.sum(), x)[0]


# Where both agree ---------------------------------------------------------------------------


@each_objective
def test_there_is_no_gradient_where_the_fake_score_is_the_teachers(objective):
    found = gradient(objective, *samples(), real=REAL, fake=REAL)
    assert torch.equal(found, torch.zeros_like(found))


# Hand values --------------------------------------------------------------------------------


def test_hand_values_of_two_gaussians():
    # Data N(0, 1), samples N(2, 4), sigma 1, x_t 1: D_fake = (4 + 2) / 5, D_real = 1 / 2.
    x = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
    eps, sigma = torch.tensor([[-0.5]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    real, fake = gaussian(0.0, 1.0), gaussian(2.0, 4.0)
    noisy = x + sigma[:, None] * eps
    assert fake(noisy, sigma).item() == pytest.approx(1.2, abs=1e-12)
    assert real(noisy, sigma).item() == pytest.approx(0.5, abs=1e-12)

    def found(objective):
        return gradient(objective, x, eps, sigma, real, fake).item()

    assert found(IntegralKL()) == pytest.approx(0.7, abs=1e-12)
    # |x - D_real| = 1.
    assert found(DistributionMatching()) == pytest.approx(0.7, abs=1e-12)
    # d = D_real - D_fake = -0.7, e = D_real - x = -1; d' = 1/2 - 4/5 = -0.3, e' = 1/2 - 1 = -0.5:
    # (d e - alpha d^2)' = d' e + d e' - 2 alpha d d' = 0.3 + 0.35 - 2 alpha 0.21.
    assert found(ScoreIdentity(alpha=1.2)) == pytest.approx(0.65 - 0.504, abs=1e-12)
    assert found(ScoreIdentity(alpha=1.0)) == pytest.approx(0.65 - 0.42, abs=1e-12)
    # Detached, what is left is -d.
    assert found(ScoreIdentity(through_denoisers=False)) == pytest.approx(0.7, abs=1e-12)


@pytest.mark.parametrize(("power", "expected"), [(2.0, 0.7), (0.0, 0.7 / 4), (3.0, 1.4)])
def test_the_weight_of_the_integral_is_a_power_of_sigma(power, expected):
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    real, fake = torch.full_like(x, 0.5), torch.full_like(x, 1.2)
    loss = IntegralKL(power)(x, real, fake, torch.full((1,), 2.0))
    (found,) = torch.autograd.grad(loss.sum(), x)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_the_mean_of_the_kl_gradient_is_that_of_the_divergence(sigma):
    # KL(N(n, w + s^2) | N(m, v + s^2)): its derivative by n is (n - m) / (v + s^2).
    m, v, n, w = 0.3, 0.5, -0.4, 1.7
    # A linear gradient has its mean over points that lie evenly on both sides.
    spread = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = (n + w**0.5 * spread)[:, None].requires_grad_()
    eps = spread.flip(0)[:, None] * 0.3
    levels = torch.full((9,), sigma, dtype=torch.float64)
    found = gradient(IntegralKL(power=0.0), x, eps, levels, gaussian(m, v), gaussian(n, w))
    assert found.mean().item() == pytest.approx((n - m) / (v + sigma**2), rel=1e-9)


# SiD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_the_gradient_of_sid_is_the_finite_difference(alpha):
    x, eps, sigma = samples()
    found = gradient(ScoreIdentity(alpha), x, eps, sigma)
    with torch.no_grad():
        held = normaliser(x, REAL(x + sigma[:, None] * eps, sigma))

    def loss(point):
        noisy = point + sigma[:, None] * eps
        real, fake = REAL(noisy, sigma), FAKE(noisy, sigma)
        difference = real - fake
        return (difference * (real - point - alpha * difference) / held).mean(1)

    h = 1e-6
    for axis in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = h
        with torch.no_grad():
            expected = (loss(x + step) - loss(x - step)) / (2 * h)
        torch.testing.assert_close(found[:, axis], expected, rtol=1e-6, atol=1e-8)


def test_the_gradient_of_sid_is_not_the_detached_one():
    x, eps, sigma = samples()
    whole = gradient(ScoreIdentity(), x, eps, sigma)
    detached = gradient(ScoreIdentity(through_denoisers=False), x, eps, sigma)
    with torch.no_grad():
        noisy = x + sigma[:, None] * eps
        real, fake = REAL(noisy, sigma), FAKE(noisy, sigma)
        expected = -(real - fake) / normaliser(x, real) / 2
    torch.testing.assert_close(detached, expected, rtol=1e-12, atol=1e-14)
    assert float((whole - detached).norm() / detached.norm()) > 0.2


def test_the_identity_of_sid():
    # E (D_real - D_fake) . (D_real - x) = E |D_real - D_fake|^2 if D_fake is exact.
    x = FAKE.draw(400_000, generator=torch.Generator().manual_seed(0))[0].double()
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for level in (0.2, 0.7):
        sigma = torch.full((len(x),), level, dtype=torch.float64)
        noisy = x + level * eps
        real, fake = REAL(noisy, sigma), FAKE(noisy, sigma)
        projected = ((real - fake) * (real - x)).sum(1)
        square = (real - fake).square().sum(1)
        error = 4 * float((projected - square).std()) / len(x) ** 0.5
        assert abs(float(projected.mean() - square.mean())) < error
        assert float(square.mean()) > 10 * error


# Scale --------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [DistributionMatching(), ScoreIdentity()])
@pytest.mark.parametrize("scale", [1e-2, 3.0, 1e3])
def test_the_normaliser_makes_the_gradient_independent_of_the_scale(objective, scale):
    def scaled(mixture):
        return MixtureDenoiser(
            (scale * mixture.means).tolist(), variances=(scale**2 * mixture.variances).tolist()
        ).double()

    x, eps, sigma = samples()
    plain = gradient(objective, x, eps, sigma)
    larger = (scale * x).detach().requires_grad_()
    found = gradient(objective, larger, eps, scale * sigma, scaled(REAL), scaled(FAKE))
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-7)


def test_the_normaliser_is_the_mean_distance_and_never_zero():
    x = torch.tensor([[1.0, -1.0], [2.0, 2.0]])
    real = torch.tensor([[0.5, 0.5], [2.0, 2.0]])
    found = normaliser(x.requires_grad_(), real)
    assert found.flatten().tolist() == pytest.approx([1.0, 1e-5])
    assert not found.requires_grad


# f-divergences ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_the_weight_of_a_divergence_is_r_squared_times_its_second_derivative(name):
    f, h = F_DIVERGENCES[name]
    r = torch.logspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    assert float(f(torch.ones(1, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)
    (first,) = torch.autograd.grad(f(r).sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    torch.testing.assert_close(h(r).detach(), (r**2 * second).detach(), rtol=1e-9, atol=1e-12)


def test_the_table_of_weights():
    assert list(F_DIVERGENCES) == [
        *("reverse_kl", "forward_kl", "jensen_shannon", "squared_hellinger"),
        *("softened_reverse_kl", "jeffreys", "neyman"),
    ]
    found = [float(h(torch.tensor(4.0))) for _, h in F_DIVERGENCES.values()]
    assert found == pytest.approx([1, 4, 0.8, 0.5, 0.2, 5, 0.25])


def test_weights_have_mean_one_and_the_reverse_kl_weighs_all_alike():
    logits = torch.linspace(-3, 4, 11)
    for name in F_DIVERGENCES:
        weight = divergence_weight(logits, name)
        assert float(weight.mean()) == pytest.approx(1, abs=1e-12)
    assert torch.equal(divergence_weight(logits, "reverse_kl"), torch.ones(11).double())
    forward = divergence_weight(torch.tensor([0.0, 3.0]).log(), "forward_kl", 0.5)
    assert forward.tolist() == pytest.approx([2 * 0.5 / 3.5, 2 * 3 / 3.5], rel=1e-6)
    extreme = divergence_weight(torch.tensor([-1e4, 1e4]), "forward_kl", 0.1, 20.0)
    assert extreme.tolist() == pytest.approx([0.2 / 20.1, 40 / 20.1])


def test_ratios_are_relative_to_those_at_like_noise():
    """Ten bins of [0, 80] are 8 wide: two samples in the first, one in the last, one beyond it."""
    sigma = torch.tensor([0.5, 7.9, 79.0, 90.0, 12.0])
    ratio = torch.tensor([1.0, 3.0, 4.0, 12.0, 5.0]).double()
    found = over_mean_at_like_noise(ratio, sigma, 0.0, 80.0, 10)
    assert found.tolist() == pytest.approx([0.5, 1.5, 0.5, 1.5, 1.0])
    weight = divergence_weight(
        ratio.log(),
        "forward_kl",
        relative=lambda r: over_mean_at_like_noise(r, sigma, 0.0, 80.0, 10),
    )
    assert weight.tolist() == pytest.approx([0.5, 1.5, 0.5, 1.5, 1.0])


def test_an_unknown_divergence_is_named():
    with pytest.raises(InputError, match="divergence: expected one of reverse_kl, .*, found 'kl'"):
        require_divergence("kl")


# Adversarial --------------------------------------------------------------------------------


def test_the_adversarial_losses_by_hand():
    zero, two = torch.zeros(3, 2), torch.full((3, 2), 2.0)
    assert generator_loss(zero).tolist() == pytest.approx([0.693147] * 3)
    assert generator_loss(two).tolist() == pytest.approx([0.126928] * 3)
    assert discriminator_loss(two, -two).tolist() == pytest.approx([0.253856] * 3)


def test_the_best_logit_is_the_logarithm_of_the_ratio():
    # Three real samples to one generated at a point: 3 softplus(-l) + softplus(l).
    logit = torch.tensor([[3.0**0.5]]).log() * 2
    logit.requires_grad_()
    real, fake = logit.expand(3, 1), logit
    loss = discriminator_loss(real, fake.expand(3, 1)).sum() - 2 * generator_loss(-fake).sum()
    (slope,) = torch.autograd.grad(loss, logit)
    assert slope.item() == pytest.approx(0, abs=1e-6)
