"""BOOT against the closed forms of one Gaussian, and its parts against their definitions."""

import copy
import itertools

import pytest
import torch
from torch import nn

from datamodules.images.base import ImageDataModule
from datamodules.images.noise import NoiseDataModule
from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import euler_step, sample_euler, sample_heun
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.diffusion.students import signal_student
from kdlight.errors import InputError
from kdlight.losses.bootstrap import (
    bootstrap_pair,
    boundary_pair,
    signal_step,
    signal_target,
)
from kdlight.losses.progressive import teacher_walk
from kdlight.networks.mlp import FourierFeatures, ScaleShiftMLP
from kdlight.storage.files import load_model, save_model
from kdlight.training.optim import Optimization
from modules.diffusion.boot import Boot
from tests.exactness.diffusion_cases import tiny_teacher
from tests.exactness.harness import fit

MEAN, STD = torch.tensor([0.3, -0.2], dtype=torch.float64), 0.5
SIGMA_MIN, SIGMA_MAX = 0.02, 20.0
GAUSSIAN = MixtureDenoiser([MEAN.tolist()], STD**2)
RING = MixtureDenoiser([[0.7, 0.0], [-0.35, 0.6], [-0.35, -0.6]], 0.02)


def draws(count, seed=0):
    """Noise and two noise levels, the upper one first."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    levels = torch.rand(2, count, generator=generator, dtype=torch.float64) * 6 - 4
    return noise, levels.amax(0).exp(), levels.amin(0).exp()


def along(x, sigma, sigma_next):
    """The flow of N(MEAN, STD^2): ``x - m`` is proportional to ``sqrt(s^2 + sigma^2)``."""
    return MEAN + (x - MEAN) * ((STD**2 + sigma_next**2) / (STD**2 + sigma**2)) ** 0.5


def exact_signal(noise, sigma):
    """Signal of the path that starts where the boundary loss has it start."""
    top = torch.tensor(SIGMA_MAX, dtype=torch.float64)
    start = top * noise + GAUSSIAN(top * noise, top)
    sigma = sigma.reshape(-1, 1)
    return along(start, top, sigma) - sigma * noise


class ExactSignal(SignalDenoiser):
    def __init__(self):
        super().__init__(nn.Identity(), STD, SIGMA_MIN, SIGMA_MAX)

    def signal(self, noise, sigma, condition=None):
        return exact_signal(noise, sigma)


def random_student(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ScaleShiftMLP((2,), 16, 2, embedding=8, **kwargs)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return SignalDenoiser(network, STD, SIGMA_MIN, SIGMA_MAX).double()


# Closed forms -------------------------------------------------------------------------------


def test_signals_follow_their_own_equation():
    noise, sigma, _ = draws(200)
    y = exact_signal(noise, sigma)
    h = 1e-5
    above, below = (
        exact_signal(noise, sigma * torch.tensor(s, dtype=torch.float64).exp()) for s in (h, -h)
    )
    rate = y - GAUSSIAN(y + sigma[:, None] * noise, sigma)
    torch.testing.assert_close((above - below) / (2 * h), rate, rtol=0, atol=1e-8)


@pytest.mark.parametrize("teacher", [GAUSSIAN, RING])
def test_a_step_of_the_signal_is_a_ddim_step_without_the_noise(teacher):
    noise, sigma, sigma_next = draws(50)
    sigma_next[:10] = 0
    y = draws(50, seed=1)[0]
    x = y + sigma[:, None] * noise
    x0 = teacher(x, sigma)
    expected = euler_step(x, x0, sigma, sigma_next) - sigma_next[:, None] * noise
    found = signal_step(x0, y, sigma, sigma_next)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(signal_target(teacher, noise, y, sigma, sigma_next), found)
    # To level 0 it is the estimate itself, bit for bit.
    assert torch.equal(found[:10], x0[:10])


def test_a_heun_step_of_the_signal_is_a_heun_step_without_the_noise():
    noise, sigma, sigma_next = draws(50)
    sigma_next[:10] = 0
    y = draws(50, seed=1)[0]
    x = y + sigma[:, None] * noise
    pair = torch.stack([sigma, sigma_next], dim=1)
    expected = teacher_walk(RING, x, pair, solver="heun") - sigma_next[:, None] * noise
    found = signal_target(RING, noise, y, sigma, sigma_next, solver="heun")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_step_is_exact_where_the_estimate_is_constant():
    point = MixtureDenoiser([[0.4, -0.1]], 1e-12)
    noise, sigma, _ = draws(20)
    y = draws(20, seed=1)[0]
    way = signal_target(point, noise, y, sigma, sigma / 3)
    two = signal_target(point, noise, way, sigma / 3, sigma / 9)
    one = signal_target(point, noise, y, sigma, sigma / 9)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_steps_add_up_to_the_exact_signal_with_the_solvers_order(solver, order):
    noise = draws(200)[0]
    errors = []
    for steps in (40, 80, 160):
        levels = torch.logspace(1, -1.5, steps + 1, dtype=torch.float64)
        y = exact_signal(noise, levels[:1])
        for i in range(steps):
            sigma, sigma_next = (levels[i + j].expand(len(noise)) for j in (0, 1))
            y = signal_target(GAUSSIAN, noise, y, sigma, sigma_next, solver=solver)
        errors.append(float((y - exact_signal(noise, levels[-1:])).norm()))
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.12)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_the_exact_signal_has_no_loss_in_the_limit_of_small_steps(solver, order, relative):
    noise, sigma, _ = draws(500)
    student = ExactSignal()
    losses = []
    for step in (0.1, 0.05, 0.025):
        estimate, target = bootstrap_pair(
            student,
            student,
            GAUSSIAN,
            noise,
            sigma,
            sigma * (1 - step),
            solver=solver,
            relative=relative,
        )
        losses.append(float((estimate - target).square().mean()))
    # One order in the step is lost to the division by it.
    expected = 4 ** (order if relative else order + 1)
    for coarse, fine in itertools.pairwise(losses):
        assert coarse / fine == pytest.approx(expected, rel=0.3)
    assert losses[-1] < 1e-4


def test_the_relative_pair_is_the_teachers_estimate_and_the_error_over_the_step():
    noise, sigma, sigma_next = draws(50)
    sigma_next[:10] = 0
    student = random_student()
    arguments = (student, student, RING, noise, sigma, sigma_next)
    estimate, target = bootstrap_pair(*arguments)
    y = student.signal(noise, sigma)
    x0 = RING(y + sigma[:, None] * noise, sigma)
    torch.testing.assert_close(target, x0, rtol=0, atol=1e-9)
    plain = [part.detach() for part in bootstrap_pair(*arguments, relative=False)]
    step = (1 - sigma_next / sigma)[:, None]
    error = (plain[0] - plain[1]) / step
    torch.testing.assert_close((estimate - target).detach(), error, rtol=0, atol=1e-8)


# The boundary -------------------------------------------------------------------------------


def test_the_estimate_of_pure_noise_is_where_paths_from_infinity_are_at_large_noise():
    noise = draws(50)[0]
    for sigma in (1e2, 1e3, 1e4):
        level = torch.tensor(sigma, dtype=torch.float64)
        # From infinity x - m is sqrt(s^2 + sigma^2) eps.
        signal = MEAN + ((STD**2 + level**2).sqrt() - level) * noise
        difference = GAUSSIAN(level * noise, level) - signal
        expected = STD**2 / (2 * level) * noise
        torch.testing.assert_close(difference * sigma, expected * sigma, rtol=0, atol=2 / sigma)


def test_a_path_from_nothing_rises_to_the_same_place():
    noise = draws(50)[0]
    top = torch.tensor(1e4, dtype=torch.float64)
    sigma = top / 50
    signal = along(top * noise, top, sigma) - sigma * noise
    expected = (1 - sigma / top) * GAUSSIAN(top * noise, top)
    torch.testing.assert_close(signal, expected, rtol=0, atol=0.01)


def test_the_boundary_pair_is_asked_at_pure_noise():
    noise = draws(20)[0]
    student = random_student()
    top = torch.tensor(SIGMA_MAX, dtype=torch.float64)
    estimate, target = boundary_pair(student, RING, noise)
    assert torch.equal(estimate, student.signal(noise, top))
    assert torch.equal(target, RING(SIGMA_MAX * noise, top))
    assert estimate.requires_grad
    assert not target.requires_grad
    estimate, target = boundary_pair(ExactSignal(), GAUSSIAN, noise)
    torch.testing.assert_close(estimate, target, rtol=0, atol=1e-12)


def test_a_copied_student_starts_at_the_boundary():
    teacher = tiny_teacher()
    student = signal_student(teacher, dropout=0.0)
    noise = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    condition = {"label": torch.arange(20) % 2}
    top = torch.tensor(student.sigma_max)
    found = student.signal(noise, top, condition)
    expected = teacher.denoiser(student.sigma_max * noise, top, condition)
    skipped = student.sigma_data**2 / student.sigma_max
    torch.testing.assert_close(found, expected - skipped * noise, rtol=0, atol=1e-3)
    assert expected.norm() > 20 * skipped * noise.norm()
    # A copy: the teacher's weights stay where they are.
    assert student.network is not teacher.denoiser.network


# Gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_gradients_reach_the_lower_signal_alone(solver):
    noise, sigma, sigma_next = draws(20)
    student = random_student()
    teacher = copy.deepcopy(tiny_points())
    estimate, target = bootstrap_pair(
        student, student, teacher, noise, sigma, sigma_next, solver=solver
    )
    assert estimate.requires_grad
    assert not target.requires_grad
    parameters = list(student.parameters())
    loss = (estimate - target).square().mean()
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    y = student.signal(noise, sigma).detach()
    y_next = signal_target(teacher, noise, y, sigma, sigma_next, solver=solver)
    step = (1 - sigma_next / sigma)[:, None]
    loss = ((student.signal(noise, sigma_next) - y_next) / step).square().mean()
    expected = torch.autograd.grad(loss, parameters)
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-8)
    (estimate.sum() + boundary_pair(student, teacher, noise)[0].sum()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def tiny_points():
    """A teacher of points with weights that could be trained."""
    return EDMDenoiser(random_student(seed=3).network, STD, SIGMA_MIN, SIGMA_MAX)


def test_the_gradient_is_the_finite_difference_with_the_target_held():
    noise, sigma, sigma_next = draws(20)
    student = random_student()
    held = copy.deepcopy(student)
    parameters = list(student.parameters())

    def loss():
        estimate, target = bootstrap_pair(
            student, held, RING, noise, sigma, sigma_next, solver="heun"
        )
        start, x0 = boundary_pair(student, RING, noise)
        return (estimate - target).square().mean() + 0.5 * (start - x0).square().mean()

    gradients = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(1)
    ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum(float((g * way).sum()) for g, way in zip(gradients, ways, strict=True))

    def moved(step):
        with torch.no_grad():
            for parameter, way in zip(parameters, ways, strict=True):
                parameter.add_(step * way)
            value = float(loss())
            for parameter, way in zip(parameters, ways, strict=True):
                parameter.sub_(step * way)
        return value

    h = 1e-5
    assert (moved(h) - moved(-h)) / (2 * h) == pytest.approx(slope, rel=1e-5)


def test_both_levels_share_their_dropout():
    student = random_student(dropout=0.5).train()
    noise, sigma, _ = draws(20)
    estimate, target = bootstrap_pair(student, student, RING, noise, sigma, sigma, relative=False)
    torch.testing.assert_close(estimate.detach(), target, rtol=0, atol=1e-12)


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
        ({"levels": 1}, "levels: expected a number of at least 2, found 1"),
        ({"boundary_weight": -1.0}, "boundary_weight: expected a number of at least 0, found -1"),
        ({"boundary_every": 0}, "boundary_every: expected a number of at least 1, found 0"),
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
