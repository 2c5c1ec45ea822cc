"""The consistency methods: targets, curricula, stages, refusals."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.diffusion.curricula import ConstantCurriculum, ConstantDecay
from kdlight.diffusion.denoisers import (
    ConsistencyDenoiser,
    SwitchedDenoiser,
)
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.losses.consistency import tuned_level
from kdlight.losses.progressive import teacher_walk
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.consistency_training import ConsistencyTraining
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.truncated_consistency import TruncatedConsistency
from tests.exactness.diffusion_cases import tiny_denoiser, tiny_teacher
from tests.exactness.harness import TinyImages, fit
from tests.modules.diffusion.consistency_examples import Exact, consistency, network

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
