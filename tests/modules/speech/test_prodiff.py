"""ProDiff: closed forms, and what the released program does otherwise."""

import copy
import math

import pytest
import torch

from kdlight.diffusion.denoisers import Denoiser
from kdlight.diffusion.samplers import euler_step, sample_euler_ancestral
from kdlight.diffusion.schedules import sigma_from_alpha_bar
from kdlight.errors import InputError
from kdlight.losses.progressive import implied_x0, teacher_walk
from kdlight.training.optim import Optimization
from modules.speech.prodiff import ProDiff
from tests.exactness.harness import fit
from tests.modules.speech.synthesis_cases import (
    prodiff,
    short_sentences,
    synthesis_training,
    tiny_teacher,
)


class Known(Denoiser):
    """A denoiser that is a function of x and sigma."""

    def __init__(self, function):
        super().__init__(0.0, 1e6)
        self.function = function

    def forward(self, x, sigma, condition=None):
        return self.function(x, sigma.double().reshape(-1, 1))


def released_levels():
    """Noise levels of the released program's "vpsde" of 5 entries, from its betas."""
    steps = torch.arange(1, 6, dtype=torch.float64)
    betas = 1 - torch.exp(-0.1 / 5 - 0.5 * (40 - 0.1) * (2 * steps - 1) / 25)
    return (1 - betas).cumprod(0)


def test_the_released_schedule_has_a_closed_form():
    u = torch.arange(1, 6, dtype=torch.float64) / 5
    torch.testing.assert_close(
        released_levels(), torch.exp(-(0.1 * u + 19.95 * u**2)), atol=0, rtol=1e-12
    )
    sigmas = sigma_from_alpha_bar(released_levels())
    expected = torch.tensor([1.125, 4.933, 37.36, 616.5, 22584.0], dtype=torch.float64)
    torch.testing.assert_close(sigmas, expected, atol=0, rtol=1e-3)


def test_the_papers_target_is_the_implied_x0():
    torch.manual_seed(0)
    alpha_bar = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    z = torch.randn(4, 7, dtype=torch.float64)
    f = Known(lambda x, sigma: torch.sin(x) / (1 + sigma))
    # DDIM in the paper's letters, twice.
    state = z
    for here, there in ((0, 1), (1, 2)):
        estimate = f(state / a[here], (s[here] / a[here]).expand(4))
        noise = (state - a[here] * estimate) / s[here]
        state = a[there] * estimate + s[there] * noise
    target = (state - (s[2] / s[0]) * z) / (a[2] - (s[2] / s[0]) * a[0])
    levels = (s / a).expand(4, 3)
    end = teacher_walk(f, z / a[0], levels)
    found = implied_x0(z / a[0], end, levels[:, 0], levels[:, 2])
    torch.testing.assert_close(found, target, atol=1e-12, rtol=1e-12)


def test_a_constant_teacher_gives_its_constant():
    x = torch.randn(3, 5, dtype=torch.float64)
    levels = torch.tensor([[80.0, 2.4, 1.0], [1.0, 0.4, 0.0], [3.0, 2.0, 1.0]])
    walked = teacher_walk(Known(lambda x, sigma: torch.full_like(x, 0.7)), x, levels.double())
    target = implied_x0(x, walked, levels[:, 0].double(), levels[:, 2].double())
    torch.testing.assert_close(target, torch.full_like(x, 0.7), atol=1e-12, rtol=0)


@pytest.mark.parametrize("levels", [(80.0, 2.4, 1.0), (1.0, 0.4, 0.0)])
def test_of_gaussian_data_the_target_is_an_affine_function(levels):
    m, v = 0.3, 0.8

    def kappa(sigma):
        return v / (v + sigma**2)

    def walk(sigma, following):
        ratio = following / sigma
        return ratio + (1 - ratio) * kappa(sigma)

    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    grid = torch.tensor(levels, dtype=torch.float64).expand(7, 3)
    walked = teacher_walk(Known(lambda x, sigma: m + kappa(sigma) * (x - m)), x, grid)
    found = implied_x0(x, walked, grid[:, 0], grid[:, 2])
    ratio = levels[2] / levels[0]
    slope = (walk(levels[0], levels[1]) * walk(levels[1], levels[2]) - ratio) / (1 - ratio)
    torch.testing.assert_close(found, m + slope * (x - m), atol=1e-12, rtol=1e-12)


def test_the_posterior_at_the_last_level_is_the_estimate():
    x = 5 * torch.randn(2, 4)
    sigmas = torch.tensor([0.4, 0.0], dtype=torch.float64)
    constant = Known(lambda x, sigma: torch.full_like(x, 0.25))
    assert torch.equal(sample_euler_ancestral(constant, x, sigmas), torch.full((2, 4), 0.25))
    # And between levels the posterior's mean: the coefficients of x and the estimate.
    sigma, following = 2.0, 1.0
    down = math.sqrt(following**2 - following**2 * (1 - (following / sigma) ** 2))
    mean = euler_step(x, torch.zeros_like(x), torch.tensor(sigma), torch.tensor(down))
    torch.testing.assert_close(mean, x * following**2 / sigma**2)


def test_the_student_starts_as_its_teacher_and_nothing_else_learns():
    module = prodiff()
    teacher = module.get_teacher()
    for name, weight in teacher.denoiser.named_parameters():
        assert torch.equal(module.student.denoiser.get_parameter(name), weight)
    before = copy.deepcopy(module.student.front_end.state_dict())
    fit(module, short_sentences())
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert not any(weight.requires_grad for weight in module.student.front_end.parameters())
    assert not teacher.training
    assert not teacher.front_end.training, "dropout of the front end is off"
    found = module.student.front_end.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in before.items())
    moved = module.student.denoiser.state_dict()
    assert any(not torch.equal(moved[n], w) for n, w in teacher.denoiser.state_dict().items())


def test_what_is_taught_is_what_is_sampled(monkeypatch):
    """The released student is shown the levels 4 and 2 under the labels 2 and 0; its sampler's
    second call has a state of level 1. Its walk ends at level 0, not at clean speech.
    """
    module = prodiff()
    shown = []
    inner = module.student.denoiser.forward

    def seen(x, sigma, condition=None):
        shown.append(sigma.double())
        return inner(x, sigma, condition)

    monkeypatch.setattr(module.student.denoiser, "forward", seen)
    fit(module, short_sentences())
    students = [student for _, student in module.synthesisers().values()]
    assert sorted(student.steps for student in students) == [(1,), (2,)]
    taught = [set(torch.cat(part).tolist()) for part in (shown[:8], shown[8:])]
    for student in students:
        levels = student.grid.sigmas(student.steps[0])
        assert set(levels[:-1].tolist()) == taught[2 - student.steps[0]]
        assert float(levels[-1]) == 0, "the walk ends at clean speech"
    assert module.grids[1].tolist() == module.grids[0][::2].tolist()


def test_the_loss_of_a_batch_does_not_know_its_padding():
    teaching, module = synthesis_training(), prodiff()
    data = short_sentences()
    batch = next(iter(data.train_dataloader()))
    longer = dict(batch)
    longer["audio"] = torch.nn.functional.pad(batch["audio"], (0, 50 * 160))
    longer["pitch"] = torch.nn.functional.pad(batch["pitch"], (0, 50))
    model = module.get_teacher()
    for each in (teaching, module):
        x0, told = each.prepare(batch, model)
        wide, known = each.prepare(longer, model)
        assert wide.shape[2] == x0.shape[2] + 50
        noise = torch.randn(wide.shape)
        losses = []
        for clean, condition in ((x0, told), (wide, known)):
            frames = model.front_end(condition).frames
            x = clean + noise[..., : clean.shape[2]]
            estimate = model.denoiser(
                x, torch.tensor(1.0), {"frames": frames, "mask": condition["mask"]}
            )
            terms = each.reconstruction(estimate, clean, condition["mask"])
            losses.append(torch.stack([*terms.values()]))
        torch.testing.assert_close(losses[1], losses[0])


def test_bad_settings_name_themselves():
    with pytest.raises(
        InputError, match="student_steps: halving 4 steps gives 4, 2 steps, never 3"
    ):
        ProDiff(tiny_teacher(), Optimization(), student_steps=3)
    with pytest.raises(InputError, match="weights: expected mel, ssim.*found l1: 1"):
        ProDiff(tiny_teacher(), Optimization(), weights={"l1": 1.0})
    with pytest.raises(InputError, match="expected 2 training speakers"):
        data = short_sentences()
        data.heldout = 2
        fit(prodiff(), data)
