"""MeanFlow against the closed form of one Gaussian, and its parts against their definitions."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from torch import nn

from datamodules.loader import StreamLoader
from kdlight.core.spec import Recorded, build, spec_of
from kdlight.diffusion.denoisers import Denoiser
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import SAMPLERS, sample_heun, sample_jump
from kdlight.diffusion.sigmas import FlowNoise, KarrasGrid, PrefixGrid
from kdlight.errors import InputError
from kdlight.losses.mean_flow import (
    adaptive_weight,
    guided_velocity,
    mean_flow_target,
    teacher_velocity,
    time_pairs,
    velocity_and_rate,
)
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.storage.files import load_model, save_model
from kdlight.training.optim import Optimization
from modules.diffusion.mean_flow import MeanFlow
from tests.exactness.harness import TinyImages, fit

MEAN, STD = 0.7, 0.5
ORACLE = MixtureDenoiser([[MEAN]], STD**2)


def spread(t):
    """Standard deviation of ``z_t``: ``q^2 = (1 - t)^2 s^2 + t^2``."""
    return ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def exact_slope(r, t):
    """Slope of the average velocity in z.

    On the flow ``x - m`` is proportional to ``sqrt(s^2 + sigma^2)``, so ``z_t - (1 - t) m`` is to
    ``q(t)``; hence ``u = (1 - q(r) / q(t)) / (t - r) (z - (1 - t) m) - m``, here without the 0 / 0
    at r = t.
    """
    return ((t + r) - STD**2 * (2 - t - r)) / (spread(t) * (spread(t) + spread(r)))


class ExactNetwork(nn.Module):
    """The average velocity of one Gaussian, asked as a network is."""

    interval = True

    def forward(self, z, t, condition):
        r = t - condition["interval"]
        t, r = t[:, None], r[:, None]
        return exact_slope(r, t) * (z - (1 - t) * MEAN) - MEAN


class AffineNetwork(Recorded, nn.Module):
    """``a(t, t - r) z + b(t, t - r)`` with a small perceptron for a and b."""

    interval = True

    def __init__(self, width=64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )

    def forward(self, z, t, condition):
        told = torch.stack([t, condition["interval"]], dim=1).to(z.dtype)
        a, b = self.layers(told).split(1, dim=1)
        return a * z + b


def exact():
    return MeanFlowDenoiser(ExactNetwork())


def random_network(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ScaleShiftMLP((3,), 16, 2, embedding=8, interval=True, **kwargs)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network.double()


def draws(count, dim=1, seed=0):
    """States, lower and upper times."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    times = torch.rand(2, count, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    return z, times.amin(0), times.amax(0)


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


# Sampling -----------------------------------------------------------------------------------


def test_one_step_is_the_noise_less_its_average_velocity():
    student = MeanFlowDenoiser(random_network())
    generator = Generator(student, PrefixGrid([student.sigma_max]), (3,), "jump", (1,))
    noise = draws(20, 3)[0]
    t = torch.full((20,), 1000 / 1001, dtype=torch.float64)
    expected = noise - t[:, None] * student.velocity(noise, torch.zeros_like(t), t)
    torch.testing.assert_close(generator(noise), expected.detach(), rtol=1e-12, atol=1e-12)


def test_two_steps_by_hand():
    student = MeanFlowDenoiser(random_network())
    noise = draws(20, 3)[0]
    # Levels 3 and 1 are the times 0.75 and 0.5; the second state is seen as z = x / 2.
    one, half, end = (torch.full((20,), value, dtype=torch.float64) for value in (0.75, 0.5, 0.0))
    middle = noise - 0.25 * student.velocity(noise, half, one)
    expected = middle - 0.5 * student.velocity(middle, end, half)
    levels = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    found = sample_jump(student, student.prior(noise, levels[0]), levels)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-6)


def test_jumps_of_the_exact_map_compose_and_follow_the_flow():
    noise = draws(50)[0]
    levels = torch.tensor([20.0, 3.0, 0.8, 0.1, 0.0], dtype=torch.float64)
    start = 20 * noise
    direct = sample_jump(exact(), start, levels[[0, -1]])
    torch.testing.assert_close(sample_jump(exact(), start, levels), direct, rtol=0, atol=1e-9)
    walk = sample_heun(ORACLE, start, KarrasGrid(0.001, 20.0).sigmas(400))
    torch.testing.assert_close(direct, walk, rtol=0, atol=1e-4)
    # The estimate of x0 is the jump to 0, at any level, and the data themselves at level 0.
    sigma = levels[1]
    expected = MEAN + (start - MEAN) * (STD**2 / (STD**2 + sigma**2)) ** 0.5
    torch.testing.assert_close(exact()(start, sigma), expected, rtol=0, atol=1e-9)
    assert torch.equal(exact()(start, levels[-1]), start)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_jumps_cost_one_call_each_and_tell_the_callback_where_they_point(steps):
    calls = []

    class Counting(ExactNetwork):
        def forward(self, z, t, condition):
            calls.append(len(z))
            return super().forward(z, t, condition)

    levels = KarrasGrid(0.1, 20.0).sigmas(steps)
    seen = []
    end = sample_jump(
        MeanFlowDenoiser(Counting()),
        20 * draws(5)[0].float(),
        levels,
        callback=lambda step, sigma, x, x0: seen.append((step, sigma, x, x0)),
    )
    assert len(calls) == steps
    assert [entry[:2] for entry in seen] == list(enumerate(levels[:-1].tolist()))
    assert end.dtype == torch.float32
    assert torch.equal(seen[-1][2], end)
    assert torch.equal(seen[-1][3], end)


def test_a_callback_is_told_the_end_of_a_straight_flow():
    class Straight(nn.Module):
        interval = True

        def forward(self, z, t, condition):
            # All noise flows to the point MEAN: z_t = (1 - t) MEAN + t eps.
            return (z - MEAN) / t[:, None]

    seen = []
    levels = torch.tensor([20.0, 1.0, 0.0], dtype=torch.float64)
    sample_jump(
        MeanFlowDenoiser(Straight()),
        20 * draws(5)[0] + MEAN,
        levels,
        callback=lambda step, sigma, x, x0: seen.append(x0),
    )
    for x0 in seen:
        torch.testing.assert_close(x0, torch.full_like(x0, MEAN), rtol=0, atol=1e-5)


def test_other_denoisers_do_not_jump():
    with pytest.raises(InputError, match="expects a flow map such as MeanFlowDenoiser, found Mix"):
        SAMPLERS["jump"](ORACLE, draws(2)[0], torch.tensor([1.0, 0.0]))


# Training -----------------------------------------------------------------------------------


class Gaussian(L.LightningDataModule):
    """Numbers from one Gaussian."""

    def train_dataloader(self):
        image = MEAN + STD * torch.randn(8192, 1, generator=torch.Generator().manual_seed(0))
        return StreamLoader({"image": image}, batch_size=512, steps_per_epoch=500, seed=0)


@pytest.mark.parametrize("taught", [False, True])
def test_an_affine_student_learns_the_exact_map_of_a_gaussian(taught):
    torch.manual_seed(0)
    module = MeanFlow(
        MeanFlowDenoiser(AffineNetwork()),
        Optimization(lr=5e-3, decay="cosine"),
        iterations=2000,
        teacher=Generator(ORACLE, KarrasGrid(), (1,)) if taught else None,
        shape=[1],
        noise_law=FlowNoise(0.0, 1.6),
        ratio=0.75,
        power=0.0,
        ema_half_life=100.0,
    )
    fit(module, Gaussian())
    _, generator = module.generators()["ema.module"]
    noise = torch.linspace(-2, 2, 41)[:, None]
    # From t = 1, where q is 1 and the mean 0.
    expected = MEAN + STD * noise
    for steps in (1, 2):
        error = (generator(noise, steps=steps) - expected).norm() / expected.norm()
        assert float(error) < 0.02, f"{steps} steps: {float(error):.4f}"


def meanflow(**kwargs):
    network = ScaleShiftMLP((1, 4, 4), 16, 1, num_classes=2, embedding=8, interval=True)
    settings = {"shape": [1, 4, 4], "iterations": 3} | kwargs
    return MeanFlow(MeanFlowDenoiser(network), Optimization(), **settings)


def test_samples_of_a_trained_student_come_from_jumps():
    module = fit(meanflow(class_dropout=0.2, guidance_scale=1.5, guidance_mix=0.25), TinyImages())
    name, generator = module.generators()["ema.module"]
    assert name == "student"
    assert generator.algorithm == "jump"
    assert generator.steps == (1, 2)
    assert generator.evaluations(2) == 2
    assert generator.grid.sigmas(2).tolist() == [1000.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.5}, "ratio: expected a number from 0 to 1, found 1.5"),
        ({"offset": 0.0}, "offset: expected a number above 0, found 0.0"),
        ({"class_dropout": 1.0}, r"class_dropout: expected a number in \[0, 1\), found 1.0"),
        ({"guidance_mix": 1.0}, r"guidance_mix: expected a number in \[0, 1\), found 1.0"),
        ({"guidance_scale": 2.0}, "class_dropout: expected a number above 0 with guidance_scale"),
        ({"shape": None}, "shape: expected the shape of one sample"),
        ({"intermediate": [2000.0]}, "levels: expected falling noise levels"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        meanflow(**settings)


def test_what_needs_classes_or_an_interval_is_refused_without():
    def unconditional(**kwargs):
        network = ScaleShiftMLP((1, 4, 4), 16, 1, interval=True)
        return MeanFlow(MeanFlowDenoiser(network), Optimization(), shape=[1, 4, 4], **kwargs)

    with pytest.raises(InputError, match="expected 1, and guidance_mix 0, for a student without"):
        unconditional(guidance_scale=2.0)
    with pytest.raises(InputError, match="class_dropout: expected 0 for a network that has no"):
        unconditional(class_dropout=0.1)
    with pytest.raises(InputError, match="network: expected one with interval true"):
        MeanFlowDenoiser(ScaleShiftMLP((2,), 16, 1))


# Networks and files -------------------------------------------------------------------------

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: ScaleShiftMLP((1, 8, 8), 16, 1, num_classes=3, embedding=8, interval=True),
    "unet": lambda: UNet2D(
        8, 1, num_classes=3, block_out_channels=(8, 16), noise_scale=10.0, interval=True
    ),
}


def network_denoiser(name: str) -> Denoiser:
    torch.manual_seed(0)
    denoiser = MeanFlowDenoiser(NETWORKS[name](), time_scale=2.0, sigma_max=500.0)
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)  # outputs start at zero
    return denoiser


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_forward_mode_and_are_told_the_interval_and_the_class(name):
    student = network_denoiser(name).double()
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 4, 1, 8, 8, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    r, condition = t / 2, {"label": torch.tensor([0, 1, 2, 3])}
    u, rate = velocity_and_rate(student, z, r, t, v, condition)
    # Times reach a network in single precision, so the step is not small.
    h = 2e-3
    with torch.no_grad():
        ahead = student.velocity(z + h * v, r, t + h, condition)
        behind = student.velocity(z - h * v, r, t - h, condition)
        difference = (ahead - behind) / (2 * h)
        assert float((rate - difference).norm() / difference.norm()) < 0.01
        # A missing label is the class behind the last one; a missing interval is 0.
        without = student.velocity(z, r, t)
        torch.testing.assert_close(without[3], u[3], rtol=0, atol=1e-6)
        assert (without[:3] - u[:3]).abs().max() > 1e-3
        assert (student.velocity(z, t, t, condition) - u).abs().max() > 1e-3
        plain = student.network(z, t * 2, condition)
        torch.testing.assert_close(plain, student.velocity(z, t, t, condition), rtol=0, atol=1e-5)
    u.square().sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_flow_map_comes_back_from_its_files_bit_for_bit(name, tmp_path):
    denoiser = network_denoiser(name).eval()
    assert spec_of(build(spec_of(denoiser))) == spec_of(denoiser)
    save_model(denoiser, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, MeanFlowDenoiser)
    assert spec_of(loaded) == spec_of(denoiser)
    x = torch.randn(4, 1, 8, 8)
    sigma, sigma_next = torch.full((4,), 3.0), torch.full((4,), 0.5)
    condition = {"label": torch.arange(4)}
    with torch.no_grad():
        assert torch.equal(
            loaded.jump(x, sigma, sigma_next, condition),
            denoiser.jump(x, sigma, sigma_next, condition),
        )


@pytest.mark.parametrize("kind", [ScaleShiftMLP, UNet2D])
def test_networks_without_an_interval_keep_their_weights_names(kind):
    shape = {"shape": (1, 8, 8)} if kind is ScaleShiftMLP else {"size": 8, "channels": 1}
    keys = set(kind(**shape, num_classes=3).state_dict())
    assert not [key for key in keys if "interval" in key]
    assert not [key for key in keys if key.startswith("class_embedding") and kind is UNet2D]
