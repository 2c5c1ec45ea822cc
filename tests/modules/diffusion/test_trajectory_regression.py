"""Regression onto trajectories: Gaussian data, whose ODE is a linear map of the noise."""

import lightning as L
import pytest
import torch
from torch import nn

from datamodules.images.pairs import PairsDataModule
from kdlight.diffusion.denoisers import Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import sample_heun
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.losses.distances import L1
from kdlight.networks.mlp import FourierFeatures
from kdlight.training.optim import Optimization
from modules.diffusion.trajectory_regression import TrajectoryRegression
from tests.exactness.diffusion_cases import tiny_denoiser, tiny_teacher
from tests.exactness.harness import BATCH, PAIRS, TinyImages, fit

MEAN, STD = torch.tensor([0.3, -0.2]), 0.5
SIGMA_MIN, SIGMA_MAX = 0.02, 10.0


def teacher(std=STD, steps=40):
    oracle = MixtureDenoiser([MEAN.tolist()], std**2)
    return Generator(oracle, KarrasGrid(SIGMA_MIN, SIGMA_MAX), (2,), steps=(steps,))


def exact(noise, std=STD):
    """Where a walk of many steps from ``SIGMA_MAX * noise`` ends, for N(MEAN, std^2).

    ``dx/dsigma = sigma (x - m) / (s^2 + sigma^2)`` keeps ``(x - m)^2 / (s^2 + sigma^2)`` down to
    ``SIGMA_MIN``; the last step, to 0, returns the estimate there,
    ``m + s^2 / (s^2 + SIGMA_MIN^2) (x - m)``.
    """
    mean = MEAN.to(noise)
    slope = std**2 / ((std**2 + SIGMA_MIN**2) * (std**2 + SIGMA_MAX**2)) ** 0.5
    return mean + slope * (SIGMA_MAX * noise - mean)


class ExactMap(Denoiser):
    """The optimum, times a weight that starts at 1 so that there is something to train."""

    def __init__(self, std=STD):
        super().__init__(SIGMA_MIN, SIGMA_MAX)
        self.std = std
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, sigma, condition=None):
        assert (sigma == SIGMA_MAX).all()
        return self.scale * exact(x / SIGMA_MAX, self.std)


class Affine(nn.Module):
    """``F = a(noise) x + b(noise)``."""

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


class Loss(L.Callback):
    """The loss of each iteration."""

    def __init__(self, module):
        self.values = []
        module.report = lambda values: self.values.append(float(values["regression"]))


def points(tmp_path, made_by, count=2000, **settings):
    return PairsDataModule(made_by, count, folder=str(tmp_path), batch_size=256, **settings)


def regression(student, **settings):
    arguments = {"iterations": 5, "ema_half_life": 3.0} | settings
    return TrajectoryRegression(
        teacher(), Optimization(lr=arguments.pop("lr", 1e-3)), student=student, **arguments
    )


def test_the_walk_that_pairs_are_made_by_is_the_linear_map():
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for std in (0.0, STD):
        oracle = MixtureDenoiser([MEAN.tolist()], std**2)
        levels = KarrasGrid(SIGMA_MIN, SIGMA_MAX).sigmas(400)
        walk = sample_heun(oracle, SIGMA_MAX * noise, levels)
        torch.testing.assert_close(walk, exact(noise, std), rtol=0, atol=1e-4)


def test_a_point_is_hit_whatever_the_noise(tmp_path):
    # A point mass: the ODE ends in it, in any number of steps.
    data = points(tmp_path, teacher(std=0.0, steps=3))
    torch.testing.assert_close(data.pairs["image"], MEAN.expand(2000, 2), rtol=0, atol=1e-6)
    module = regression(ExactMap(std=0.0))
    loss = Loss(module)
    fit(module, data)
    assert max(loss.values) < 1e-10


def test_the_loss_is_zero_at_the_exact_map_and_nowhere_near(tmp_path):
    data = points(tmp_path, teacher(steps=400))
    student = ExactMap()
    module = regression(student, lr=1e-12)
    loss = Loss(module)
    fit(module, data)
    assert max(loss.values) < 1e-9
    with torch.no_grad():
        student.scale.fill_(1.1)
    module = regression(student, lr=1e-12)
    loss = Loss(module)
    fit(module, data)
    # A tenth of the sample too far: 0.01 E x^2 over the two coordinates.
    expected = 0.01 * (STD**2 + float(MEAN.square().mean()))
    assert sum(loss.values) / 5 == pytest.approx(expected, rel=0.2)


def test_the_loss_is_the_mean_square_of_one_step_from_pure_noise(tmp_path):
    data, student = points(tmp_path, teacher(), seed=3), ExactMap()
    with torch.no_grad():
        student.scale.fill_(1.3)
    module = regression(student, lr=1e-12, iterations=1)
    loss = Loss(module)
    fit(module, data)
    batch = next(iter(data.train_dataloader()))
    expected = (1.3 * exact(batch["noise"]) - batch["image"]).square().mean()
    assert loss.values == [pytest.approx(float(expected), rel=1e-5)]


@pytest.mark.slow
def test_an_affine_student_reaches_the_exact_map(tmp_path):
    torch.manual_seed(0)
    module = regression(
        EDMDenoiser(Affine(), STD, SIGMA_MIN, SIGMA_MAX),
        iterations=800,
        lr=5e-3,
        ema_half_life=30.0,
    )
    fit(module, points(tmp_path, teacher(steps=100)))
    ((name, generator),) = module.generators().values()
    assert (name, generator.steps, generator.evaluations(1)) == ("student", (1,), 1)
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(9))
    error = float((generator(noise) - exact(noise)).norm() / exact(noise).norm())
    print(f"relative error {error:.3%}")
    assert error <= 0.005


def test_the_distance_is_a_part():
    module = TrajectoryRegression(
        tiny_teacher(), Optimization(lr=1e-12), iterations=1, distance=L1(), dropout=None
    )
    loss = Loss(module)
    data = TinyImages(parts=PAIRS)
    fit(module, data)
    batch = next(iter(data.train_dataloader()))
    sample = tiny_denoiser()(
        20.0 * batch["noise"], torch.full((BATCH,), 20.0), {"label": batch["label"]}
    )
    expected = (sample - batch["image"]).abs().mean()
    assert loss.values == [pytest.approx(float(expected), rel=1e-5)]


def test_a_copied_student_starts_as_the_teacher_and_no_teacher_is_called():
    module = TrajectoryRegression(tiny_teacher(), Optimization(lr=1e-3), iterations=4)
    for ours, theirs in zip(
        module.student.parameters(), module.teacher.denoiser.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
        assert ours is not theirs

    def fail(*_):
        raise AssertionError("called")

    module.teacher.denoiser.register_forward_hook(fail)
    assert fit(module, TinyImages(parts=PAIRS)).iteration == 4


def test_data_without_pairs_are_named():
    module = TrajectoryRegression(tiny_teacher(), Optimization(lr=1e-3), iterations=4)
    with pytest.raises(InputError, match="expected pairs of noise and image .* found batches of i"):
        fit(module, TinyImages())
