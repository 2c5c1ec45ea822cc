import math

import diffusers
import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.cut_law import CutLaw
from kdlight.diffusion.schedules import (
    alpha_bar_from_sigma,
    alphas_cumprod_of,
    flow_time_from_sigma,
    sigma_from_alpha_bar,
    sigma_from_flow_time,
)
from kdlight.diffusion.sigmas import (
    CosineGrid,
    FixedGrid,
    FlowNoise,
    KarrasGrid,
    LogNormalNoise,
    LogUniformNoise,
    NestedGrid,
    TimestepNoise,
    TrailingGrid,
    halve,
)
from kdlight.errors import InputError

DIFFUSERS = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    },
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


# Schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIFFUSERS)
def test_schedules_are_those_of_diffusers(name):
    theirs = diffusers.DDIMScheduler(**DIFFUSERS[name]).alphas_cumprod.double()
    # Theirs is a float32 product of a thousand factors, and the cosine's last beta is 0.999.
    torch.testing.assert_close(alphas_cumprod_of(name), theirs, rtol=1e-4, atol=1e-7)


def test_ends_of_the_linear_schedule():
    alpha_bar = alphas_cumprod_of("linear")
    assert alpha_bar[0] == 1 - 1e-4
    assert math.isclose(alpha_bar[-1], 4.0358e-5, rel_tol=1e-4)
    assert math.isclose(sigma_from_alpha_bar(alpha_bar)[-1], 157.407, rel_tol=1e-5)


def test_conversions_are_inverse_and_right_by_hand():
    sigma = torch.logspace(-3, 4, 50, dtype=torch.float64)
    torch.testing.assert_close(sigma_from_alpha_bar(alpha_bar_from_sigma(sigma)), sigma)
    torch.testing.assert_close(sigma_from_flow_time(flow_time_from_sigma(sigma)), sigma)
    assert float(alpha_bar_from_sigma(torch.tensor(3.0))) == pytest.approx(0.1)
    assert float(flow_time_from_sigma(torch.tensor(3.0))) == 0.75


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.6], [1.0, 0.5], [0.5, 0.0]])
def test_impossible_schedules_are_refused(values):
    with pytest.raises(InputError, match="schedule: expected at least two falling values"):
        alphas_cumprod_of(values)


# Grids --------------------------------------------------------------------------------------


def test_karras_grid_by_hand():
    # Evaluated with 30 decimal digits.
    expected = [
        80.0, 57.58598472, 40.78557380, 28.37458460, 19.35245298, 12.91008238,
        8.400935309, 5.315194522, 3.256821520, 1.923339837, 1.088170637, 0.5853481232,
        0.2964422845, 0.1395164687, 0.05994731124, 0.02293451837, 0.007528019963, 0.002, 0.0,
    ]  # fmt: skip
    levels = KarrasGrid(0.002, 80.0, 7.0).sigmas(18)
    torch.testing.assert_close(levels, torch.tensor(expected).double(), rtol=1e-6, atol=0)
    assert float(levels[8]) == pytest.approx(3.256821520, rel=1e-9)
    assert levels[0] == 80.0
    assert levels[-2] == 0.002
    assert KarrasGrid().sigmas(1).tolist() == [80.0, 0.0]


def test_karras_grid_is_that_of_the_edm_scheduler():
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(18)
    torch.testing.assert_close(
        KarrasGrid().sigmas(18), scheduler.sigmas.double(), rtol=1e-6, atol=0
    )


def test_cosine_grid_by_hand():
    # tan(pi/4) = 1, tan(pi/8) = sqrt(2) - 1, tan(3 pi/8) = sqrt(2) + 1.
    levels = CosineGrid(80.0).sigmas(4)
    root = math.sqrt(2)
    torch.testing.assert_close(levels, torch.tensor([80.0, root + 1, 1, root - 1, 0]).double())
    assert CosineGrid(80.0).sigmas(1).tolist() == [80.0, 0.0]
    with pytest.raises(InputError, match="sigma_max"):
        CosineGrid(2.0).sigmas(4)


@pytest.mark.parametrize("name", DIFFUSERS)
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 3, 7, 16, 50])
def test_trailing_grid_is_that_of_ddim(name, steps):
    scheduler = diffusers.DDIMScheduler(**DIFFUSERS[name], timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    table = sigma_from_alpha_bar(alphas_cumprod_of(name))
    levels = TrailingGrid(name).sigmas(steps)
    assert torch.equal(levels[:-1], table[scheduler.timesteps])
    assert levels[-1] == 0


@pytest.mark.parametrize(
    "grid", [CosineGrid(1e4), TrailingGrid("cosine"), NestedGrid(KarrasGrid(), 16)]
)
def test_grids_of_half_the_steps_are_every_second_level(grid):
    for steps in (16, 8, 4, 2):
        torch.testing.assert_close(grid.sigmas(steps)[::2], grid.sigmas(steps // 2))


@pytest.mark.parametrize(
    "grid",
    [
        KarrasGrid(),
        CosineGrid(),
        TrailingGrid(),
        TrailingGrid("cosine"),
        NestedGrid(KarrasGrid(), 8),
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_every_grid_falls_to_exactly_zero(grid, steps):
    levels = grid.sigmas(steps)
    assert levels.dtype == torch.float64
    assert levels.shape == (steps + 1,)
    assert (levels.diff() < 0).all()
    assert levels[-1] == 0
    assert torch.equal(build(spec_of(grid)).sigmas(steps), levels)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([8, 4, 2, 1, 0], [8, 2, 0]),
        ([8, 4, 2, 0], [8, 2, 0]),
        ([8, 4, 2, 1, 0.5, 0], [8, 2, 0.5, 0]),
        ([8, 0], [8, 0]),
    ],
)
def test_halving_keeps_both_ends(levels, expected):
    assert halve(torch.tensor(levels).double()).tolist() == expected


def test_nested_grid_of_an_odd_base_halves_upwards():
    grid = NestedGrid(KarrasGrid(), 9)
    base = KarrasGrid().sigmas(9)
    assert torch.equal(grid.sigmas(5), base[[0, 2, 4, 6, 8, 9]])
    assert torch.equal(grid.sigmas(3), base[[0, 4, 8, 9]])
    with pytest.raises(InputError, match="halving 9 steps never gives 4"):
        grid.sigmas(4)


def test_fixed_grid():
    assert FixedGrid([2, 1]).sigmas(2).tolist() == [2, 1, 0]
    with pytest.raises(InputError, match="samples in 2 steps, found 3"):
        FixedGrid([2, 1, 0]).sigmas(3)
    for levels in ([], [0.0], [1, 2], [1, 1], [1, -1]):
        with pytest.raises(InputError, match="levels"):
            FixedGrid(levels)


def test_wrong_step_counts_are_named():
    with pytest.raises(InputError, match="steps: expected at least 1, found 0"):
        KarrasGrid().sigmas(0)
    with pytest.raises(InputError, match="at most 2 timesteps, found 3"):
        TrailingGrid([0.9, 0.1]).sigmas(3)
    with pytest.raises(InputError, match="sigma_min"):
        KarrasGrid(2.0, 1.0)


# Noise laws ---------------------------------------------------------------------------------

UNIFORM = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000


def phi(z):
    return torch.special.ndtr(torch.tensor(z, dtype=torch.float64))


def test_log_normal_noise():
    law = LogNormalNoise(-1.2, 1.2)
    quantiles = law(phi([-2.0, 0.0, 1.5]))
    expected = torch.tensor([-1.2 - 2.4, -1.2, -1.2 + 1.8]).double().exp()
    torch.testing.assert_close(quantiles, expected, rtol=1e-6, atol=0)
    logs = law(UNIFORM).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=1e-6)
    assert float(logs.std()) == pytest.approx(1.2, abs=1e-3)


def test_log_uniform_noise():
    law = LogUniformNoise(0.01, 100.0)
    levels = law(torch.tensor([0.0, 0.25, 0.5, 1.0]).double())
    torch.testing.assert_close(levels, torch.tensor([0.01, 0.1, 1.0, 100.0]).double())
    # E[sigma] = (max - min) / log(max / min).
    assert float(law(UNIFORM).mean()) == pytest.approx(99.99 / math.log(1e4), rel=1e-6)


def test_timestep_noise_takes_every_timestep_equally_often():
    table = sigma_from_alpha_bar(alphas_cumprod_of("cosine"))
    levels, counts = TimestepNoise("cosine")(UNIFORM).unique(return_counts=True)
    assert torch.equal(levels, table)
    assert (counts == 200).all()


def test_a_law_without_its_ends():
    # DMD2's release draws the timesteps 20 to 980, all equally often.
    levels, counts = CutLaw(TimestepNoise("cosine"), 0.02, 0.981)(UNIFORM).unique(
        return_counts=True
    )
    assert torch.equal(levels, sigma_from_alpha_bar(alphas_cumprod_of("cosine"))[20:981])
    assert counts.max() - counts.min() <= 1
    with pytest.raises(InputError, match="stop: expected more than start, 0.5, found 0.5"):
        CutLaw(TimestepNoise(), 0.5, 0.5)


def test_flow_noise():
    assert float(FlowNoise(0.0, None)(torch.tensor([0.75]))) == pytest.approx(3.0)
    time = flow_time_from_sigma(FlowNoise(0.5, 2.0)(phi([-1.0, 0.0, 1.0])))
    torch.testing.assert_close(time, torch.sigmoid(torch.tensor([-1.5, 0.5, 2.5]).double()))
    uniform = flow_time_from_sigma(FlowNoise(std=None)(UNIFORM))
    assert float(uniform.mean()) == pytest.approx(0.5, abs=1e-6)
    assert float(uniform.std()) == pytest.approx(1 / math.sqrt(12), abs=1e-5)


@pytest.mark.parametrize(
    "law", [LogNormalNoise(), LogUniformNoise(), TimestepNoise(), FlowNoise(), FlowNoise(std=None)]
)
def test_noise_laws_are_finite_at_the_ends_and_rising(law):
    levels = law(torch.tensor([0.0, 0.2, 0.5, 0.8, 1 - 2**-53]).double())
    assert levels.dtype == torch.float64
    assert levels.isfinite().all()
    assert (levels > 0).all()
    assert (levels.diff() > 0).all()
