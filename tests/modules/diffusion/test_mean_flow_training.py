"""MeanFlow: sampling, training, networks and files."""

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
from kdlight.diffusion.samplers import SAMPLERS, sample_heun, sample_jump
from kdlight.diffusion.sigmas import FlowNoise, KarrasGrid, PrefixGrid
from kdlight.errors import InputError
from kdlight.losses.mean_flow import (
    velocity_and_rate,
)
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.storage.files import load_model, save_model
from kdlight.training.optim import Optimization
from modules.diffusion.mean_flow import MeanFlow
from tests.exactness.harness import TinyImages, fit
from tests.modules.diffusion.mean_flow_examples import (
    MEAN,
    ORACLE,
    STD,
    ExactNetwork,
    draws,
    exact,
    random_network,
)


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


@pytest.mark.slow
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
