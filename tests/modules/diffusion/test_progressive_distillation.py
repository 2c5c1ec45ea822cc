"""Progressive distillation against its closed forms (arXiv:2202.00512)."""

import copy
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from datamodules.loader import StreamLoader
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import Denoiser, GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.samplers import euler_step, sample_euler, sample_heun
from kdlight.diffusion.sigmas import CosineGrid, FixedGrid, KarrasGrid
from kdlight.errors import InputError
from kdlight.losses.denoising import weight_of
from kdlight.losses.distances import PseudoHuber
from kdlight.losses.progressive import implied_x0, teacher_walk
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.storage.files import load_checkpoint
from kdlight.training.optim import Optimization
from modules.diffusion.progressive_distillation import ProgressiveDistillation
from tests.exactness.diffusion_cases import progressive_distillation, tiny_denoiser, tiny_teacher
from tests.exactness.harness import SaveAt, differing, fit, state


def gaussian(variance: float, dimension: int = 3) -> MixtureDenoiser:
    return MixtureDenoiser([[0.3] * dimension], variance)


def two_ddim_steps_in_z(z: Tensor, x0_hat: Any, times: list[float]) -> tuple[Tensor, Tensor]:
    """The paper's algorithm 2, literally, with alpha = cos, sigma = sin: z'' and the x target."""
    alpha = [math.cos(t * math.pi / 2) for t in times]
    sigma = [math.sin(t * math.pi / 2) for t in times]
    walked = z
    for k in range(2):
        estimate = x0_hat(walked, alpha[k], sigma[k])
        walked = alpha[k + 1] * estimate + sigma[k + 1] / sigma[k] * (walked - alpha[k] * estimate)
    ratio = sigma[2] / sigma[0]
    return walked, (walked - ratio * z) / (alpha[2] - ratio * alpha[0])


@pytest.mark.parametrize("i", [1, 2, 3, 4])
def test_the_target_is_the_papers_in_its_own_coordinates(i: int) -> None:
    oracle = MixtureDenoiser([[-1.0, 0.5], [0.8, -0.2]], [0.05, 0.2], [0.3, 0.7])
    times = [i / 5 + 0.02 * (i == 4), (i - 0.5) / 5, (i - 1) / 5]
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
    levels = torch.tensor([[math.tan(t * math.pi / 2) for t in times]] * 6, dtype=torch.float64)
    x = z / math.cos(times[0] * math.pi / 2)

    def x0_hat(z: Tensor, alpha: float, sigma: float) -> Tensor:
        return oracle(z / alpha, torch.tensor(sigma / alpha, dtype=torch.float64))

    walked, target = two_ddim_steps_in_z(z, x0_hat, times)
    ours = teacher_walk(oracle, x, levels)
    torch.testing.assert_close(
        ours * math.cos(times[2] * math.pi / 2), walked, rtol=1e-11, atol=1e-11
    )
    torch.testing.assert_close(
        implied_x0(x, ours, levels[:, 0], levels[:, 2]), target, rtol=1e-9, atol=1e-10
    )


def test_one_student_step_with_the_target_lands_where_two_teacher_steps_do() -> None:
    oracle = gaussian(0.4)
    levels = torch.tensor([[3.0, 1.5, 0.7], [0.5, 0.2, 0.0]], dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    end = teacher_walk(oracle, x, levels)
    target = implied_x0(x, end, levels[:, 0], levels[:, 2])
    torch.testing.assert_close(
        euler_step(x, target, levels[:, 0], levels[:, 2]), end, rtol=1e-12, atol=1e-12
    )


def test_gaussian_target_in_closed_form() -> None:
    # One Euler step of a centred Gaussian multiplies x by (v + s s') / (v + s^2) exactly.
    variance, (a, b, c) = 0.25, (2.0, 1.0, 0.5)
    oracle = MixtureDenoiser([[0.0, 0.0]], variance)
    factor = (variance + a * b) / (variance + a * a) * (variance + b * c) / (variance + b * b)
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    levels = torch.tensor([[a, b, c]], dtype=torch.float64)
    end = teacher_walk(oracle, x, levels)
    torch.testing.assert_close(end, factor * x, rtol=1e-14, atol=0)
    expected = (factor - c / a) / (1 - c / a) * x
    torch.testing.assert_close(
        implied_x0(x, end, levels[:, 0], levels[:, 2]), expected, rtol=1e-13, atol=0
    )


def test_where_the_walk_ends_at_zero_the_target_is_its_end() -> None:
    oracle = gaussian(0.4)
    x = torch.randn(4, 3)
    levels = torch.tensor([[0.4, 0.1, 0.0]] * 4, dtype=torch.float64)
    end = teacher_walk(oracle, x, levels)
    assert torch.equal(implied_x0(x, end, levels[:, 0], levels[:, 2]), end)
    middle = euler_step(x, oracle(x, levels[0, 0]), levels[0, 0], levels[0, 1])
    assert torch.equal(end, oracle(middle, levels[0, 1]))


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_stretches_of_unequal_length_share_a_batch(solver: Any) -> None:
    oracle = gaussian(0.4)
    x = torch.randn(3, 3, dtype=torch.float64)
    levels = torch.tensor([[2.0, 1.0, 0.5], [2.0, 0.0, 0.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
    together = teacher_walk(oracle, x, levels, None, solver)
    sampler = sample_euler if solver == "euler" else sample_heun
    for row, (start, grid) in enumerate(zip(x, levels, strict=True)):
        alone = sampler(oracle, start[None], torch.unique_consecutive(grid))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=1e-12)


def test_weightings_are_errors_of_what_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, wrong = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator)
    eps = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    sigma = torch.tensor([0.05, 0.5, 1.0, 3.0, 70.0], dtype=torch.float64)[:, None]
    x, alpha = x0 + sigma * eps, (1 + sigma**2).rsqrt()
    error = (wrong - x0).square().sum(1)

    def weighted(name: Any) -> Tensor:
        return weight_of(sigma[:, 0], name, 0.5) * error

    eps_hat = (x - wrong) / sigma
    torch.testing.assert_close(weighted("snr"), (eps_hat - eps).square().sum(1))
    v, v_hat = (alpha * (e - sigma * c) for e, c in ((eps, x0), (eps_hat, wrong)))
    torch.testing.assert_close(weighted("v"), (v_hat - v).square().sum(1))
    torch.testing.assert_close(weighted("flow"), ((eps_hat - wrong) - (eps - x0)).square().sum(1))
    torch.testing.assert_close(
        weighted("truncated_snr"), torch.maximum(error, (eps_hat - eps).square().sum(1))
    )
    total = (sigma**2 + 0.25).sqrt()
    raw, raw_hat = ((c - 0.25 / total**2 * x) / (sigma * 0.5 / total) for c in (x0, wrong))
    torch.testing.assert_close(weighted("edm"), (raw_hat - raw).square().sum(1))
    torch.testing.assert_close(weighted("constant"), error)


@pytest.mark.parametrize(
    ("start", "end", "counts"),
    [
        (16, 1, [16, 8, 4, 2, 1]),
        (8, 2, [8, 4, 2]),
        (7, 1, [7, 4, 2, 1]),
        (2, 1, [2, 1]),
        (3, 2, [3, 2]),
    ],
)
def test_rounds_halve_any_number_of_steps(start: int, end: int, counts: list[int]) -> None:
    module = ProgressiveDistillation(
        tiny_teacher(), Optimization(), teacher_steps=start, student_steps=end, round_iterations=5
    )
    assert [len(levels) - 1 for levels in module.grids] == counts
    assert module.iterations == 5 * (len(counts) - 1)
    for fine, coarse in zip(module.grids, module.grids[1:], strict=False):
        assert set(coarse.tolist()) <= set(fine.tolist())
        assert coarse[0] == fine[0]
        assert coarse[-1] == 0


def test_round_bookkeeping() -> None:
    module = progressive_distillation()
    seen = []
    for module.iteration in range(22):
        seen.append((module.round, *module.stage()))
    assert seen[0] == (0, 0, 6)
    assert seen[5] == (0, 5, 6)
    assert seen[6] == (1, 0, 7)
    assert seen[13] == (2, 0, 8)
    assert seen[21] == (2, 8, 8)


def test_a_round_ends_in_its_students_average(tmp_path: Path) -> None:
    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if pl_module.iteration == 6:
                self.student = copy.deepcopy(pl_module.student.state_dict())
                self.previous = copy.deepcopy(pl_module.previous.state_dict())
                self.finished = copy.deepcopy(pl_module.finished["4"].state_dict())
                self.updates = pl_module.ema.updates
                self.moments = len(pl_module.optimizers().optimizer.state)

    watch = Watch()
    module = fit(progressive_distillation(), callbacks=[watch, SaveAt(tmp_path, (5,))])
    # The average as it would be after the last update of the round, from the step before it.
    before = load_checkpoint(tmp_path / "5.ckpt")["state_dict"]
    assert any(
        not torch.equal(before[f"student.{key}"], value) for key, value in watch.student.items()
    )
    for key, value in watch.previous.items():
        assert torch.equal(value, watch.student[key])
        assert torch.equal(value, watch.finished[key])
    assert watch.updates == 0
    assert watch.moments == 0
    assert isinstance(module, ProgressiveDistillation)
    assert module.ema.updates == 8
    assert {g.steps for _, g in module.generators().values()} == {(1,), (2,), (4,)}


def test_raw_weights_can_teach_the_next_round() -> None:
    averaged = state(fit(progressive_distillation()))
    raw = state(fit(progressive_distillation(next_teacher="raw")))
    assert list(differing(averaged, raw))


def test_the_distance_is_a_part_and_squared_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm weighs the gradient of every sample by one over its distance."""

    def gradient(**kwargs: Any) -> Tensor:
        module = progressive_distillation(weighting="constant", **kwargs)
        seen: list[Tensor] = []

        def keep(_: Any, inputs: Any, estimate: Tensor) -> None:
            estimate.retain_grad()
            seen.append(estimate)

        module.student.register_forward_hook(keep)
        # Outside of a trainer there is no update to make and nothing to log to.
        monkeypatch.setattr(module, "optimize", lambda name, loss: loss.backward())
        monkeypatch.setattr(module, "report", lambda values: None)
        module.noise.start(0, torch.device("cpu"))
        image = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        module.step({"image": image, "label": torch.tensor([0, 1, 0, 1])})
        found: Tensor = seen[0].grad
        return found

    squared, norm = gradient(), gradient(distance=PseudoHuber(0.0))
    # 2 d / (16 * 4) and d / (|d| * 4), of the same d.
    difference = 32 * squared
    length = difference.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(norm, difference / length / 4)


def test_guidance_is_distilled_by_the_first_round_only() -> None:
    module = progressive_distillation(guidance_scale=3.0)
    teacher = module.get_teacher().denoiser
    x, sigma = torch.randn(4, 1, 4, 4), torch.tensor(2.0)
    label = {"label": torch.tensor([0, 1, 0, 1])}
    with torch.no_grad():
        guided = module.round_teacher(x, sigma, label)
        expected = teacher(x, sigma, {}) + 3 * (teacher(x, sigma, label) - teacher(x, sigma, {}))
    torch.testing.assert_close(guided, expected)
    module.iteration = 6
    assert module.round_teacher is module.previous


def test_a_guided_teacher_gives_the_student_its_network_alone() -> None:
    teacher = tiny_teacher()
    guided = Generator(GuidedDenoiser(teacher.denoiser, 2.0), teacher.grid, teacher.shape)
    module = ProgressiveDistillation(guided, Optimization(), round_iterations=5)
    assert type(module.student) is type(teacher.denoiser)
    assert isinstance(module.round_teacher, GuidedDenoiser)


def test_a_few_step_student_is_walked_on_its_own_levels() -> None:
    levels = KarrasGrid(0.02, 20.0).sigmas(16)[[0, 4, 8, 12, 16]]
    student = Generator(
        tiny_denoiser(), FixedGrid(levels.tolist()), (1, 4, 4), "euler", (4,), any_steps=False
    )
    module = ProgressiveDistillation(student, Optimization(), teacher_steps=4, round_iterations=5)
    assert torch.equal(module.grids[0], levels)
    with pytest.raises(InputError, match="this model samples in 4 steps, found 16"):
        ProgressiveDistillation(student, Optimization(), teacher_steps=16)


def test_bad_settings_are_one_sentence() -> None:
    teacher, settings = tiny_teacher(), Optimization()
    with pytest.raises(InputError, match="guidance_scale: expected 1 for a teacher without"):
        oracle = Generator(gaussian(1.0), KarrasGrid(), (3,))
        ProgressiveDistillation(oracle, settings, guidance_scale=2.0)
    with pytest.raises(InputError, match=r"beta2: expected a number in \[0, 1\), found 1.5"):
        Optimization(beta2=1.5)
    with pytest.raises(InputError, match="student_steps: expected 1 <= student_steps"):
        ProgressiveDistillation(teacher, settings, teacher_steps=4, student_steps=4)
    with pytest.raises(InputError, match="gives 16, 8, 4, 2 steps, never 3"):
        ProgressiveDistillation(teacher, settings, teacher_steps=16, student_steps=3)
    with pytest.raises(InputError, match="expected 4 numbers above 0"):
        ProgressiveDistillation(teacher, settings, round_iterations=[5, 5])
    with pytest.raises(InputError, match="expected the teacher's 2 classes, found 0"):
        student = VPDenoiser(ScaleShiftMLP((1, 4, 4), 8, 1), prediction="sample")
        ProgressiveDistillation(teacher, settings, student=student)
    with pytest.raises(InputError, match="epsilon prediction says nothing about x0"):
        student = VPDenoiser(ScaleShiftMLP((1, 4, 4), 8, 1, num_classes=2))
        ProgressiveDistillation(teacher, settings, student=student)
    with pytest.raises(InputError, match="copy_weights"):
        student = VPDenoiser(ScaleShiftMLP((1, 4, 4), 8, 1, num_classes=2), prediction="sample")
        ProgressiveDistillation(teacher, settings, student=student, copy_weights=True)
    small, large = (
        VPDenoiser(ScaleShiftMLP((1, 4, 4), width, 1), prediction="sample") for width in (8, 12)
    )
    both = r"copy_weights: .* weight .*: expected shape \(12, .*\), found \(8, .*\)"
    with pytest.raises(InputError, match=both):
        narrow = Generator(small, KarrasGrid(), (1, 4, 4))
        ProgressiveDistillation(narrow, settings, student=large, copy_weights=True)


class AffineDenoiser(Denoiser):
    """D = scale(level) x + shift(level), one pair a level: enough for a Gaussian, exactly."""

    def __init__(self, levels: Tensor) -> None:
        super().__init__(0.0, 100.0)
        self.register_buffer("levels", levels)
        self.scale = torch.nn.Parameter(torch.zeros(len(levels), dtype=torch.float64))
        self.shift = torch.nn.Parameter(torch.zeros(len(levels), dtype=torch.float64))

    def forward(self, x: Tensor, sigma: Tensor, condition: Any = None) -> Tensor:
        index = (self.levels - sigma.expand(len(x))[:, None]).abs().argmin(1)
        return self.scale[index, None] * x + self.shift[index, None]


@pytest.mark.slow
def test_an_affine_student_of_a_gaussian_finds_the_composed_map() -> None:
    """Three rounds, 8 steps to 1: the last student is the product of the teacher's eight steps."""
    variance, mean = 0.5, 0.3
    oracle = MixtureDenoiser([[mean]], variance)
    levels = KarrasGrid(0.05, 4.0).sigmas(8)
    teacher = Generator(oracle, FixedGrid(levels.tolist()), (1,))
    student = AffineDenoiser(levels[:-1])
    module = ProgressiveDistillation(
        teacher,
        Optimization(lr=0.05, decay="linear"),
        teacher_steps=8,
        round_iterations=600,
        grid=teacher.grid,
        student=student,
        weighting="constant",
        ema_half_life=0.0,
    )

    class Gaussians(L.LightningDataModule):
        def train_dataloader(self):
            generator = torch.Generator().manual_seed(0)
            draw = torch.randn(4096, 1, dtype=torch.float64, generator=generator)
            return StreamLoader({"image": mean + variance**0.5 * draw}, 64, 600)

    fit(module, Gaussians())
    x = torch.linspace(-8, 8, 5, dtype=torch.float64)[:, None]
    eight = sample_euler(oracle, x, levels)
    one = sample_euler(module.ema.module, x, levels[[0, -1]])
    torch.testing.assert_close(one, eight, rtol=0.01, atol=0.005)


def test_cosine_grid_is_the_papers() -> None:
    levels = CosineGrid(1e4).sigmas(4)
    torch.testing.assert_close(
        1 / (1 + levels[1:] ** 2),
        torch.tensor([math.cos(t * math.pi / 8) ** 2 for t in (3, 2, 1, 0)], dtype=torch.float64),
    )


def test_the_default_student_is_a_trainable_copy() -> None:
    teacher = tiny_teacher()
    module = ProgressiveDistillation(teacher, Optimization())
    assert all(p.requires_grad for p in module.student.parameters())
    assert not any(p.requires_grad for p in module.ema.parameters())
    ours, theirs = module.student.state_dict(), tiny_denoiser().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_student_has_none_of_its_teachers_dropout() -> None:
    network = ScaleShiftMLP((1, 4, 4), 8, 1, embedding=8, dropout=0.5)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    teacher = Generator(VPDenoiser(network, prediction="sample"), KarrasGrid(), (1, 4, 4))
    made = ProgressiveDistillation(teacher, Optimization(), 4, 1, 1).train()
    x, sigma = torch.randn(2, 1, 4, 4), torch.ones(2)
    assert torch.equal(made.student(x, sigma), teacher.denoiser.eval()(x, sigma))
    assert network.blocks[0].dropout.p == 0.5
