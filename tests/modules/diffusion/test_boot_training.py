"""What BOOT trains: data-free runs, affine students, refusals."""

import itertools

import pytest
import torch
from torch import nn

from datamodules.images.base import ImageDataModule
from datamodules.images.noise import NoiseDataModule
from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import sample_euler, sample_heun
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.diffusion.students import signal_student
from kdlight.errors import InputError
from kdlight.losses.bootstrap import (
    bootstrap_pair,
    boundary_pair,
    signal_target,
)
from kdlight.networks.mlp import FourierFeatures, ScaleShiftMLP
from kdlight.storage.files import load_model, save_model
from kdlight.training.optim import Optimization
from modules.diffusion.boot import Boot
from tests.exactness.diffusion_cases import tiny_teacher
from tests.exactness.harness import fit
from tests.modules.diffusion.boot_examples import (
    GAUSSIAN,
    RING,
    SIGMA_MAX,
    SIGMA_MIN,
    STD,
    draws,
    exact_signal,
    random_student,
)

# Training -----------------------------------------------------------------------------------


class Untouchable(ImageDataModule):
    """A reference with a shape and classes, whose images must not be looked at."""

    shape, class_names = (1, 4, 4), ["one", "two"]

    def __init__(self):
        super().__init__(12, 7, 0)

    def prepare_data(self):
        raise AssertionError("prepared")

    def read(self):
        raise AssertionError("a method without data looked at an image")


def without_data(steps_per_epoch=500):
    return NoiseDataModule(Untouchable(), batch_size=12, steps_per_epoch=steps_per_epoch)


class Affine(nn.Module):
    """``F = a(noise) x + b(noise)``: holds the exact signal."""

    num_classes = 0

    def __init__(self):
        super().__init__()
        self.features = FourierFeatures(32, max_frequency=4.0)
        self.net = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 3))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x, noise, condition=None):
        out = self.net(self.features(noise).to(x.dtype))
        return out[:, :1] * x + out[:, 1:]


WALKS = {"euler": sample_euler, "heun": sample_heun}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "heun"},
        {"solver": "euler"},
        {"solver": "heun", "target": "average", "relative": False, "boundary_every": 4},
    ],
)
def test_an_affine_student_becomes_the_walk_of_its_levels(settings):
    torch.manual_seed(0)
    module = Boot(
        Generator(GAUSSIAN, KarrasGrid(SIGMA_MIN, SIGMA_MAX), (2,)),
        Optimization(lr=5e-3, beta2=0.99, decay="cosine"),
        iterations=3500,
        levels=40,
        student=SignalDenoiser(Affine(), STD, SIGMA_MIN, SIGMA_MAX),
        ema_half_life=50.0,
        **settings,
    )
    fit(module, NoiseDataModule(shape=(2,), batch_size=256))
    ((_, generator),) = module.generators().values()
    noise = draws(4000, seed=9)[0]
    top = torch.tensor(SIGMA_MAX, dtype=torch.float64)
    start = top * noise + GAUSSIAN(top * noise, top)
    walk = WALKS[settings["solver"]](GAUSSIAN, start, module.levels.flip(0))
    exact = exact_signal(noise, torch.zeros(1, dtype=torch.float64))
    found = generator(noise.float()).double()
    to_walk, to_exact = (float((found - x).norm() / x.norm()) for x in (walk, exact))
    print(f"{settings}: {to_walk:.3%} from the walk, {to_exact:.3%} from the exact map")
    assert to_walk <= 0.01
    # Euler's own error at these levels is 4.2 %, Heun's 0.3 %.
    assert (to_exact <= 0.01) == (settings["solver"] == "heun")


class Table(SignalDenoiser):
    """A student that can hold anything: a number for every noise and level."""

    def __init__(self, levels, count):
        super().__init__(nn.Identity(), STD, SIGMA_MIN, SIGMA_MAX)
        generator = torch.Generator().manual_seed(4)
        values = torch.randn(len(levels), count, 2, generator=generator, dtype=torch.float64)
        self.levels, self.values = levels, nn.Parameter(values)

    def signal(self, noise, sigma, condition=None):
        level = (self.levels - sigma.reshape(-1, 1)).abs().argmin(1)
        return self.values[level, torch.arange(len(noise))]


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_bootstrapping_settles_on_the_teachers_walk_wherever_it_starts(solver):
    noise = draws(30)[0]
    levels = KarrasGrid(SIGMA_MIN, SIGMA_MAX).sigmas(12).flip(0)
    student = Table(levels, len(noise))
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    losses = []
    # What is right at the top moves down by one level an update.
    for _ in range(len(levels) + 1):
        pairs = [boundary_pair(student, RING, noise)] + [
            bootstrap_pair(
                *(student, student, RING, noise, sigma.expand(30), sigma_next.expand(30)),
                solver=solver,
                relative=False,
            )
            for sigma_next, sigma in itertools.pairwise(levels)
        ]
        loss = sum((estimate - target).square().sum() for estimate, target in pairs) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[0] > 1
    assert losses[-1] < 1e-24
    top = torch.tensor(SIGMA_MAX, dtype=torch.float64)
    start = top * noise + RING(top * noise, top)
    walk = WALKS[solver](RING, start, levels.flip(0))
    found = student(top * noise, top)
    torch.testing.assert_close(found, walk, rtol=0, atol=1e-11)


def test_the_exact_map_is_the_walk_that_the_student_becomes():
    noise = draws(50)[0]
    top = torch.tensor(SIGMA_MAX, dtype=torch.float64)
    start = top * noise + GAUSSIAN(top * noise, top)
    levels = KarrasGrid(SIGMA_MIN, SIGMA_MAX).sigmas(80)
    expected = exact_signal(noise, torch.zeros(1, dtype=torch.float64))
    walk = sample_heun(GAUSSIAN, start, levels)
    assert float((walk - expected).norm() / expected.norm()) < 0.002
    # From x = sigma_max eps, the teacher's own start, it is the same to 1 / sigma_max.
    plain = sample_heun(GAUSSIAN, top * noise, levels)
    assert float((plain - walk).norm() / walk.norm()) < 1 / SIGMA_MAX
    y = start - top * noise
    for sigma, sigma_next in itertools.pairwise(levels):
        y = signal_target(GAUSSIAN, noise, y, sigma.expand(50), sigma_next.expand(50))
    torch.testing.assert_close(y, sample_euler(GAUSSIAN, start, levels), rtol=0, atol=1e-12)


def test_training_never_touches_an_image():
    data = without_data(steps_per_epoch=2)
    module = fit(boot(), data, limit_val_batches=0)
    assert module.iteration == 6
    with pytest.raises(AssertionError, match="prepared"):
        data.whole("reference")
    assert set(next(iter(data.train_dataloader()))) == {"noise", "label"}


def boot(**kwargs):
    settings = {"iterations": 6, "ema_half_life": 3.0} | kwargs
    return Boot(tiny_teacher(), Optimization(lr=3e-3), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "euler", "boundary_weight": 0.0},
        {"solver": "heun", "boundary_every": 3},
        {"solver": "heun", "guidance_scale": 2.0},
    ],
)
def test_every_call_of_the_teacher_is_counted(settings):
    module = boot(**settings)
    rows, logged = [], []
    module.guided.denoiser.network.register_forward_hook(
        lambda network, arguments, output: rows.append(len(output))
    )
    module.report = logged.append
    fit(module, without_data(), limit_val_batches=0)
    assert sum(rows) == pytest.approx(sum(values["teacher_calls"] for values in logged))


def test_the_log_knows_the_boundary_even_if_it_never_falls_on_a_logged_batch():
    module = boot(boundary_every=2)
    fit(module, without_data(), limit_val_batches=0, log_every_n_steps=2)
    # Batches 1, 3 and 5 are logged; 0, 2 and 4 have a boundary.
    metrics = module.trainer.logged_metrics
    assert float(metrics["train/boundary"]) > 0
    assert float(metrics["train/teacher_calls"]) == 2.5 * 12
    without = boot(boundary_weight=0.0)
    fit(without, without_data(), limit_val_batches=0, log_every_n_steps=2)
    assert "train/boundary" not in without.trainer.logged_metrics


def test_samples_take_one_call_and_come_from_noise_alone():
    module = fit(boot(), without_data(), limit_val_batches=0)
    name, generator = module.generators()["ema.module"]
    assert (name, generator.steps, generator.evaluations(1)) == ("student", (1,), 1)
    assert generator.grid.sigmas(1).tolist() == [20.0, 0.0]
    noise = torch.randn(8, 1, 4, 4)
    condition = {"label": torch.arange(8) % 2}
    expected = generator.denoiser.signal(noise, torch.tensor(0.0), condition)
    samples = generator(noise, condition)
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-5)
    predicted = module.predict_step({"noise": noise, **condition}, 0)
    assert torch.equal(predicted, samples)
    # The verb predict asks for the labels of the reference, whose batches hold images.
    blank = torch.full_like(noise, torch.nan)
    predicted = module.predict_step({"image": blank, **condition}, 0)
    assert predicted.shape == noise.shape
    assert predicted.isfinite().all()
    with pytest.raises(InputError, match="steps: this student samples in 1 steps, found 2"):
        generator(noise, condition, steps=2)


def test_a_signal_model_comes_back_from_its_file_bit_for_bit(tmp_path):
    denoiser = random_student().float().eval()
    assert spec_of(build(spec_of(denoiser))) == spec_of(denoiser)
    save_model(denoiser, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, SignalDenoiser)
    noise, sigma, _ = draws(8)
    assert torch.equal(loaded.signal(noise.float(), sigma), denoiser.signal(noise.float(), sigma))


# Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": 1}, "levels: expected a whole number of at least 2, found 1"),
        ({"boundary_weight": -1.0}, "boundary_weight: expected a number of at least 0, found -1"),
        ({"boundary_every": 0}, "boundary_every: expected a whole number above 0, found 0"),
        ({"solver": "ddim"}, "solver: expected euler or heun, found 'ddim'"),
        ({"target": "ema"}, "target: expected student or average, found 'ema'"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        boot(**settings)


def test_only_an_edm_teacher_gives_its_network():
    vp = VPDenoiser(ScaleShiftMLP((2,), 16, 1), prediction="v_prediction")
    with pytest.raises(InputError, match="teacher that is no EDMDenoiser, a VPDenoiser, found nul"):
        signal_student(Generator(vp, KarrasGrid(), (2,)))
    with pytest.raises(InputError, match="teacher without weights, a MixtureDenoiser, found null"):
        signal_student(Generator(GAUSSIAN, KarrasGrid(), (2,)))
    with pytest.raises(InputError, match="sigma_min: expected a noise level above 0, which level"):
        SignalDenoiser(nn.Identity(), sigma_min=0.0)
