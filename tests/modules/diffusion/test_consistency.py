"""Consistency distillation, training, tuning, truncation: closed forms and who gets a gradient."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.curricula import ConstantCurriculum, ConstantDecay
from kdlight.diffusion.denoisers import (
    BoundaryDenoiser,
    ConsistencyDenoiser,
    Denoiser,
    EDMDenoiser,
    GuidedDenoiser,
    SwitchedDenoiser,
)
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import sample_consistency
from kdlight.diffusion.sigmas import KarrasGrid, PrefixGrid
from kdlight.diffusion.students import consistency_student, copy_of
from kdlight.errors import InputError
from kdlight.losses.consistency import consistency_pair, pair_weight, tuned_level
from kdlight.losses.progressive import teacher_walk
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.consistency_training import ConsistencyTraining
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.truncated_consistency import TruncatedConsistency
from tests.exactness.diffusion_cases import tiny_denoiser, tiny_teacher
from tests.exactness.harness import TinyImages, fit


def network(**settings: Any) -> ScaleShiftMLP:
    made = ScaleShiftMLP((3,), 16, 1, embedding=8, **settings)
    # They start at zero; a test needs something to drop and to say.
    nn.init.normal_(made.blocks[0].down.weight, std=0.3)
    nn.init.normal_(made.output.weight, std=0.3)
    return made


def consistency(**settings: Any) -> ConsistencyDenoiser:
    return ConsistencyDenoiser(network(**settings), 0.5, 0.02, 20.0)


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
    flow = Generator(FlowDenoiser(network()), KarrasGrid(), (3,))
    assert isinstance(consistency_student(flow), BoundaryDenoiser)


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


# Sampling ------------------------------------------------------------------------------------


class Exact(Denoiser):
    """The consistency function of N(0, 0.25): ends at level ``boundary``."""

    def __init__(self, boundary: float) -> None:
        super().__init__(0.01, 80.0)
        self.boundary = boundary

    def forward(self, x: Tensor, sigma: Tensor, condition: Any = None) -> Tensor:
        return x * math.sqrt((0.25 + self.boundary**2) / (0.25 + float(sigma) ** 2))


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


# The methods ---------------------------------------------------------------------------------


def test_distillation_regresses_onto_the_end_of_the_teachers_step() -> None:
    """With the exact function as target, the loss vanishes as the teacher's steps get finer."""
    oracle = MixtureDenoiser([[0.0, 0.0]], 0.25)
    x = torch.randn(1000, 2, dtype=torch.float64) * 5
    losses = []
    for count in (10, 20, 40):
        levels = KarrasGrid(0.02, 10.0).sigmas(count)[:-1].flip(0)
        worst = 0.0
        for below, above in itertools.pairwise(levels):
            pair = torch.stack([above, below]).expand(len(x), 2)
            end = teacher_walk(oracle, x, pair, solver="heun")
            gap = Exact(0.02)(x, above) - Exact(0.02)(end, below)
            worst = max(worst, float(gap.abs().max()))
        losses.append(worst)
    # Heun: the error of one step falls with the cube of its length.
    assert losses[1] < losses[0] / 6
    assert losses[2] < losses[1] / 6


SETTINGS = Optimization(lr=1e-3)


def distillation(**settings: Any) -> ConsistencyDistillation:
    return ConsistencyDistillation(tiny_teacher(), SETTINGS, 3, **settings)


def training(**settings: Any) -> ConsistencyTraining:
    return ConsistencyTraining(tiny_consistency(), [1, 4, 4], SETTINGS, 3, **settings)


def tiny_consistency() -> ConsistencyDenoiser:
    return ConsistencyDenoiser(tiny_denoiser().network, 0.5, 0.02, 20.0)


def tuning(**settings: Any) -> ConsistencyTuning:
    return ConsistencyTuning(SETTINGS, 4, tiny_teacher(), **settings)


def truncated(**settings: Any) -> TruncatedConsistency:
    return TruncatedConsistency(SETTINGS, 4, 2, tiny_teacher(), **settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: distillation(target_decay=ConstantDecay(0.9)),
        lambda: training(target_decay=ConstantDecay(0.9)),
        tuning,
        truncated,
    ],
)
def test_only_the_student_ever_has_a_gradient(make: Any) -> None:
    module = make()
    seen: set[str] = set()
    step = module.on_before_optimizer_step

    def look(optimizer: torch.optim.Optimizer) -> None:
        seen.update(name for name, p in module.named_parameters() if p.grad is not None)
        step(optimizer)

    module.on_before_optimizer_step = look
    fit(module, TinyImages())
    assert seen == {f"student.{name}" for name, _ in module.student.named_parameters()}


def test_a_moving_target_follows_its_decay() -> None:
    module = training(target_decay=ConstantDecay(0.9), curriculum=ConstantCurriculum(5))
    before = module.student.network.output.bias.detach().clone()
    module.student.network.output.bias.data += 1.0
    module.target.follow(0.9)
    module.target.update(module.student)
    torch.testing.assert_close(module.target.module.network.output.bias, before + 0.1)
    module.target.follow(0.0)
    module.target.update(module.student)
    torch.testing.assert_close(module.target.module.network.output.bias, before + 1.0)


def test_the_target_shares_the_students_dropout_and_the_average_has_none() -> None:
    module = training(target_decay=ConstantDecay(0.9)).train()
    assert module.target.module.training
    assert not module.ema.module.training


def test_tuning_starts_as_denoising() -> None:
    """At r = 0 the loss is the plain distance to the data, weighted by 1 / sigma."""
    module = tuning(stages=8)
    module.noise.start(0, torch.device("cpu"))
    x0 = torch.randn(8, 1, 4, 4)
    sigma = torch.full((8,), 0.3, dtype=torch.float64)
    found = module.consistency_loss(x0, sigma, {"label": torch.zeros(8, dtype=torch.long)})
    module.noise.start(0, torch.device("cpu"))
    x = x0 + 0.3 * module.noise.normal(x0)
    denoised = module.student(x, sigma, {"label": torch.zeros(8, dtype=torch.long)})
    expected = (denoised - x0).flatten(1).norm(dim=1).mean() / 0.3
    torch.testing.assert_close(found, expected)


def test_stages_of_tuning_are_equally_long() -> None:
    module = ConsistencyTuning(SETTINGS, 80, tiny_teacher(), stages=8)
    found = []
    for module.iteration in range(80):
        found.append(module.tuning_stage)
    assert found == [1 + k // 10 for k in range(80)]


def test_truncation_changes_stage_once_and_keeps_the_first_stages_result() -> None:
    module = TruncatedConsistency(SETTINGS, 6, 3, tiny_teacher(), ema_half_life=2.0)
    average: dict[str, Tensor] = {}
    change = module.after_iteration

    def look() -> None:
        if module.iteration == 3:
            average.update(copy.deepcopy(dict(module.ema.module.state_dict())))
        change()

    module.after_iteration = look
    fit(module, TinyImages())
    full = module.full.state_dict()
    assert all(torch.equal(full[key], average[key]) for key in average)
    assert any(not torch.equal(module.student.state_dict()[key], full[key]) for key in full)


def test_truncated_losses_hold_the_boundary_and_stand_on_the_first_stage_below_it() -> None:
    module = truncated(boundary=1.0, boundary_share=0.5)
    module.iteration = 2
    module.full.load_state_dict(module.student.state_dict())
    for parameter in module.student.parameters():
        parameter.data += 0.1
    module.noise.start(0, torch.device("cpu"))
    x0 = torch.randn(400, 1, 4, 4)
    condition = {"label": torch.zeros(400, dtype=torch.long)}
    sigma = torch.full((400,), 1.002, dtype=torch.float64)
    held, agreeing = module.truncated_losses(x0, sigma, condition)
    module.noise.start(0, torch.device("cpu"))
    rows = module.noise.uniform(400) < 0.5
    assert 0.4 < rows.double().mean() < 0.6
    eps = module.noise.normal(x0)
    level = torch.where(rows, 1.0, sigma)
    r = tuned_level(level, module.stages)
    assert (r <= 1.0).all()
    x, below = (x0 + s.reshape(-1, 1, 1, 1).float() * eps for s in (level, r))
    distance = (module.student(x, level, condition) - module.full(below, r, condition)).flatten(1)
    distance = distance.norm(dim=1)
    weighted = distance / (level - r).float()
    torch.testing.assert_close(held, weighted[rows].sum() / 400 / 0.5)
    torch.testing.assert_close(agreeing, weighted[~rows].sum() / 400 / 0.5)


def test_a_switched_denoiser() -> None:
    low, high = consistency(), consistency()
    both = SwitchedDenoiser(low, high, 1.0)
    x = torch.randn(3, 3)
    sigma = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    found = both(x, sigma)
    torch.testing.assert_close(found[:2], low(x, sigma)[:2])
    torch.testing.assert_close(found[2], high(x, sigma)[2])


# Refusals ------------------------------------------------------------------------------------

ORACLE = Generator(MixtureDenoiser([[0.0, 0.0]], 0.25), KarrasGrid(0.02, 10.0), (2,))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: ConsistencyDistillation(ORACLE, SETTINGS),
            "student: expected a student of its own for a teacher without weights",
        ),
        (
            lambda: distillation(student=ConsistencyDenoiser(network())),
            "student: expected the teacher's 2 classes, found 0",
        ),
        (lambda: distillation(intermediate=[30.0]), "levels: expected falling noise levels"),
        (lambda: ConsistencyDenoiser(network(), 0.5, 2.0, 1.0), "sigma_min: expected 0 <= sigma_m"),
        (lambda: ConsistencyTuning(SETTINGS), "teacher: expected a teacher or a student"),
        (
            lambda: ConsistencyTuning(SETTINGS, student=tiny_denoiser()),
            "shape: expected the shape of one sample",
        ),
        (lambda: tuning(q=1.0), "stages: expected stages >= 1 and q > 1"),
        (lambda: truncated(intermediate=[0.5]), "intermediate: expected levels of at least the b"),
        (lambda: truncated(boundary_share=1.0), "boundary_share: expected a share in"),
        (
            lambda: TruncatedConsistency(SETTINGS, 4, 4, tiny_teacher()),
            "tuning_iterations: expected 0 <= tuning_iterations < iterations",
        ),
    ],
)
def test_bad_settings_are_refused(make: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()
