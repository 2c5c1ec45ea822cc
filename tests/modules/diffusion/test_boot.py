"""BOOT against the closed forms of one Gaussian, and its parts against their definitions."""

import copy
import itertools

import pytest
import torch
from torch import nn

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import euler_step
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.diffusion.students import signal_student
from kdlight.losses.bootstrap import (
    bootstrap_pair,
    boundary_pair,
    signal_step,
    signal_target,
)
from kdlight.losses.progressive import teacher_walk
from tests.exactness.diffusion_cases import tiny_teacher
from tests.modules.diffusion.boot_examples import (
    GAUSSIAN,
    MEAN,
    RING,
    SIGMA_MAX,
    SIGMA_MIN,
    STD,
    along,
    draws,
    exact_signal,
    random_student,
)


class ExactSignal(SignalDenoiser):
    def __init__(self):
        super().__init__(nn.Identity(), STD, SIGMA_MIN, SIGMA_MAX)

    def signal(self, noise, sigma, condition=None):
        return exact_signal(noise, sigma)


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
