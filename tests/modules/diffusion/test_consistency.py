"""Consistency distillation, training, tuning, truncation: closed forms and who gets a gradient."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.denoisers import (
    BoundaryDenoiser,
    ConsistencyDenoiser,
    EDMDenoiser,
    GuidedDenoiser,
)
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import sample_consistency
from kdlight.diffusion.sigmas import KarrasGrid, PrefixGrid
from kdlight.diffusion.students import consistency_student, copy_of
from kdlight.losses.consistency import consistency_pair, pair_weight, tuned_level
from kdlight.networks.images.unet import UNet2D
from tests.exactness.diffusion_cases import tiny_teacher
from tests.modules.diffusion.consistency_examples import Exact, consistency, network

# The boundary --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        consistency,
        lambda: ConsistencyDenoiser(UNet2D(8, 1, block_out_channels=(8, 8)), 0.5, 0.002, 80.0),
        lambda: BoundaryDenoiser(EDMDenoiser(network()), 0.5, 0.002),
        lambda: BoundaryDenoiser(VPDenoiser(network(noise_scale=0.004), "linear", "epsilon")),
        lambda: BoundaryDenoiser(FlowDenoiser(network())),
    ],
)
def test_the_boundary_is_the_identity_to_the_bit(make: Any, dtype: torch.dtype) -> None:
    denoiser = make().to(dtype)
    shape = (1, 8, 8) if isinstance(getattr(denoiser, "network", None), UNet2D) else (3,)
    x = torch.randn(5, *shape, dtype=dtype) * 3
    level = torch.tensor(denoiser.boundary, dtype=torch.float64)
    assert torch.equal(denoiser(x, level), x)
    assert not torch.equal(denoiser(x, level + 0.5), x)


# sigma_data 0.5, sigma_min 0.002: c_skip = 0.25 / ((s - 0.002)^2 + 0.25),
# c_out = 0.5 (s - 0.002) / sqrt(s^2 + 0.25).
@pytest.mark.parametrize(
    ("sigma", "c_skip", "c_out"),
    [
        (0.002, 1.0, 0.0),
        (0.502, 0.5, 0.352847),
        (80.0, 3.9063e-05, 0.499978),
    ],
)
def test_boundary_coefficients(sigma: float, c_skip: float, c_out: float) -> None:
    class One(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, condition: Any) -> Tensor:
            return torch.ones_like(x)

    level = torch.tensor(sigma, dtype=torch.float64)
    denoiser = ConsistencyDenoiser(One(), 0.5, 0.002, 80.0)
    zero, one = (torch.full((1, 1), value, dtype=torch.float64) for value in (0.0, 1.0))
    assert denoiser(zero, level).item() == pytest.approx(c_out, rel=2e-5)
    assert (denoiser(one, level) - denoiser(zero, level)).item() == pytest.approx(c_skip, rel=2e-5)


def test_a_student_starts_as_its_teacher() -> None:
    teacher = tiny_teacher()
    x, label = torch.randn(4, 1, 4, 4) * 10, {"label": torch.tensor([0, 1, 0, 1])}
    level = torch.tensor(10.0)
    for guided in (teacher.denoiser, GuidedDenoiser(teacher.denoiser, 3.0)):
        start = Generator(guided, teacher.grid, teacher.shape)
        torch.testing.assert_close(
            copy_of(start)(x, level, label), teacher.denoiser(x, level, label)
        )
        student = consistency_student(start)
        assert isinstance(student, ConsistencyDenoiser)
        # The two preconditionings differ by terms of order sigma_min / sigma.
        expected = teacher.denoiser(x, level, label)
        assert (student(x, level, label) - expected).abs().max() < 0.01 * expected.abs().max()
    # A velocity's estimate is x itself at level 0 already, one of x0 is not.
    flow = Generator(FlowDenoiser(network()), KarrasGrid(), (3,))
    assert isinstance(consistency_student(flow), FlowDenoiser)
    x0 = Generator(VPDenoiser(network(), "linear", "sample"), KarrasGrid(), (3,))
    assert isinstance(consistency_student(x0), BoundaryDenoiser)


def test_dropout_of_a_copied_network() -> None:
    teacher = Generator(EDMDenoiser(network(dropout=0.3)), KarrasGrid(), (3,))
    kept, none = copy_of(teacher), copy_of(teacher, dropout=0.0)
    assert [m.p for m in kept.modules() if isinstance(m, nn.Dropout)] == [0.3]
    assert [m.p for m in none.modules() if isinstance(m, nn.Dropout)] == [0.0]
    assert teacher.denoiser.network.blocks[0].dropout.p == 0.3


# The pair ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason="this machine has no GPU"
            ),
        ),
    ],
)
def test_both_passes_of_a_pair_drop_the_same(device: str) -> None:
    student = consistency(dropout=0.5).to(device).train()
    x = torch.randn(64, 3, device=device)
    sigma = torch.full((64,), 0.7, dtype=torch.float64, device=device)
    estimate, target = consistency_pair(student, student, x, sigma, x, sigma)
    assert torch.equal(estimate, target)
    # An average that shares the dropout draws the same masks too.
    other = copy.deepcopy(student)
    estimate, target = consistency_pair(student, other, x, sigma, x, sigma)
    assert torch.equal(estimate, target)
    assert not torch.equal(estimate, student(x, sigma)), "another pass has masks of its own"


def test_no_gradient_into_the_target_and_level_0_is_clean_data() -> None:
    student, target = consistency(), consistency()
    x, clean = torch.randn(4, 3), torch.randn(4, 3)
    sigma = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    below = torch.tensor([0.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    estimate, found = consistency_pair(student, target, x, sigma, clean, below)
    assert not found.requires_grad
    assert torch.equal(found[[0, 2]], clean[[0, 2]])
    torch.testing.assert_close(found[[1, 3]], target(clean, below.clamp(min=0.02))[[1, 3]])
    (estimate - found).square().sum().backward()
    assert all(parameter.grad is None for parameter in target.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_pair_weights() -> None:
    sigma, below = torch.tensor([80.0, 0.5]), torch.tensor([60.0, 0.25])
    assert pair_weight(sigma, below, "constant").tolist() == [1.0, 1.0]
    assert pair_weight(sigma, below, "inverse_gap").tolist() == [0.05, 4.0]
    assert pair_weight(sigma, sigma, "inverse_gap").tolist() == [0.0, 0.0]
    assert pair_weight(sigma, below, "edm", 0.5).tolist() == [4 + 1 / 6400, 8.0]


# n(t) = 1 + 8 sigmoid(-t); r = t (1 - n / 2^stage).
@pytest.mark.parametrize(
    ("t", "stage", "r"),
    [
        (1.0, 1, 0.0),  # n = 3.15153 > 2
        (1.0, 2, 1 - 3.1515314 / 4),
        (1.0, 3, 1 - 3.1515314 / 8),
        (1.0, 8, 1 - 3.1515314 / 256),
        (0.1, 2, 0.0),  # n = 4.80017 > 4
        (0.1, 3, 0.1 * (1 - 4.8001665 / 8)),
        (80.0, 1, 40.0),
        (80.0, 8, 80 * (1 - 1 / 256)),
        (1e-9, 3, 1e-9 * (1 - 5 / 8)),
    ],
)
def test_tuned_levels(t: float, stage: int, r: float) -> None:
    found = tuned_level(torch.tensor(t, dtype=torch.float64), stage)
    assert found.item() == pytest.approx(r, rel=1e-7, abs=1e-15)


def test_tuned_levels_approach_the_upper_level() -> None:
    t = torch.logspace(-3, 2, 50, dtype=torch.float64)
    levels = torch.stack([tuned_level(t, stage) for stage in range(1, 20)])
    assert (levels.diff(dim=0) >= 0).all()
    torch.testing.assert_close(levels[-1], t, rtol=2e-5, atol=0)


@pytest.mark.parametrize("boundary", [0.0, 0.3])
def test_multistep_sampling_keeps_the_law_of_the_data(boundary: float) -> None:
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(400_000, 1, generator=source, dtype=torch.float64) * math.sqrt(80**2 + 0.25)
    levels = torch.tensor([80.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    samples = sample_consistency(Exact(boundary), noise, levels, generator=source)
    # Noise of the boundary is left in the samples, neither less nor twice.
    assert samples.var().item() == pytest.approx(0.25 + boundary**2, rel=0.01)


def test_one_step_is_the_function_itself_and_seeds_decide_the_rest() -> None:
    generator = Generator(
        consistency(), PrefixGrid([20.0, 1.0]), (3,), "consistency", (1, 2), any_steps=False
    )
    noise = torch.randn(6, 3)
    level = torch.tensor(20.0, dtype=torch.float64)
    assert torch.equal(generator(noise, steps=1), generator.denoiser(20.0 * noise, level))
    torch.manual_seed(3)
    first = generator(noise, steps=2)
    assert not torch.equal(generator(noise, steps=2), first)
    torch.manual_seed(3)
    assert torch.equal(generator(noise, steps=2), first)
