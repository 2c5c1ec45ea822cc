"""Stock diffusers draws what the consistency sampler draws, given the same noise."""

import math
import re

import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, DiffusionPipeline
from torch import nn

from kdlight.diffusion.denoisers import BoundaryDenoiser, ConsistencyDenoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.multistep import with_sigmas
from kdlight.diffusion.sigmas import FixedGrid, KarrasGrid, PrefixGrid
from kdlight.errors import InputError
from kdlight.export.consistency import timestep_grid
from kdlight.export.diffusers import export_diffusers
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.mlp import ScaleShiftMLP

DRAWN = (
    "diffusers.pipelines.consistency_models.pipeline_consistency_models.randn_tensor",
    "diffusers.schedulers.scheduling_consistency_models.randn_tensor",
)


def network(**kwargs):
    settings = {"channels": 1, "block_out_channels": (8, 8), "noise_scale": 1000.0, **kwargs}
    torch.manual_seed(0)
    made = UNet2D(**{"size": 8, **settings})
    for parameter in made.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
    return made


def student(grid=None, steps=(1, 2, 3), sigma_min=0.002, algorithm="consistency", **kwargs):
    denoiser = ConsistencyDenoiser(network(**kwargs), 0.5, sigma_min, 80.0)
    grid = grid or PrefixGrid([80.0, 1.0, 0.3])
    return Generator(denoiser, grid, denoiser.network.shape, algorithm, steps, False).eval()


def noises(steps, shape=(1, 8, 8)):
    """What a walk starts from, and what is drawn after each of its steps."""
    return torch.randn(steps + 1, 4, *shape, generator=torch.Generator().manual_seed(5))


def own_images(generator, steps, monkeypatch, condition=None):
    first, *later = noises(steps, generator.shape)
    drawn = iter(later)
    monkeypatch.setattr(torch, "randn", lambda shape, **kwargs: next(drawn))
    images = generator(first, condition, steps)
    monkeypatch.undo()
    # Most pixels must survive the clamp, or the comparison would say little.
    assert (images.abs() < 1).float().mean() > 0.5
    return (images / 2 + 0.5).clamp(0, 1)


def calls(path):
    """The arguments of the calls that the model card shows, by number of steps."""
    card = (path / "README.md").read_text()
    found = re.findall(r"^# (\d+) steps?,.*\nimages = pipeline\((.*)\)\.images$", card, re.M)
    return {int(steps): eval(f"dict({call})") for steps, call in found}


def pipeline_images(path, steps, monkeypatch, **asked):
    pipeline = DiffusionPipeline.from_pretrained(path)
    assert type(pipeline) is ConsistencyModelPipeline
    assert type(pipeline.scheduler) is CMStochasticIterativeScheduler
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.unet.config
    drawn = iter(noises(steps, (config.in_channels, config.sample_size, config.sample_size)))
    for place in DRAWN:
        monkeypatch.setattr(place, lambda shape, **kwargs: next(drawn))
    call = {**calls(path)[steps], **asked}
    assert call["batch_size"] == 4
    images = pipeline(**call, output_type="pt").images
    monkeypatch.undo()
    return images


@pytest.mark.parametrize("sigma_min", [0.002, 0.02, 0.03])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_stock_diffusers_gives_the_same_images(tmp_path, monkeypatch, steps, sigma_min):
    generator = student(sigma_min=sigma_min)
    export_diffusers(generator, tmp_path / "pipeline")
    images = pipeline_images(tmp_path / "pipeline", steps, monkeypatch)
    expected = own_images(generator, steps, monkeypatch)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_an_edm_student_gives_the_same_images(tmp_path, monkeypatch, steps):
    denoiser = EDMDenoiser(network())
    grid, shape = PrefixGrid([80.0, 1.0, 0.3]), denoiser.network.shape
    generator = Generator(denoiser, grid, shape, "consistency", (1, 3), False).eval()
    export_diffusers(generator, tmp_path / "pipeline")
    images = pipeline_images(tmp_path / "pipeline", steps, monkeypatch)
    expected = own_images(generator, steps, monkeypatch)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def test_one_step_is_the_pipelines_default(tmp_path, monkeypatch):
    generator = student()
    export_diffusers(generator, tmp_path / "pipeline")
    images = pipeline_images(tmp_path / "pipeline", 1, monkeypatch, num_inference_steps=1)
    expected = own_images(generator, 1, monkeypatch)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def test_chosen_levels_and_five_steps(tmp_path, monkeypatch):
    generator = with_sigmas(student(), [7.1234, 0.912, 0.3771, 0.0513])
    export_diffusers(generator, tmp_path / "pipeline")
    assert list(calls(tmp_path / "pipeline")) == [1, 2, 3, 4, 5]
    images = pipeline_images(tmp_path / "pipeline", 5, monkeypatch)
    expected = own_images(generator, 5, monkeypatch)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def test_classes_and_the_class_for_none_of_them(tmp_path, monkeypatch):
    generator = student(num_classes=3)
    nn.init.normal_(generator.denoiser.network.model.class_embedding.weight, std=3.0)
    path = tmp_path / "pipeline"
    export_diffusers(generator, path)
    label = torch.tensor([2, 0, 1, 3])
    images = pipeline_images(path, 2, monkeypatch, class_labels=label.tolist())
    expected = own_images(generator, 2, monkeypatch, {"label": label})
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    nobody = own_images(generator, 2, monkeypatch)
    assert (nobody - images)[:3].abs().max() > 1e-2
    torch.testing.assert_close(images[3], nobody[3], rtol=0, atol=1e-5)
    card = (path / "README.md").read_text()
    assert "0 to 2: without it diffusers draws labels at random, also 3, which stands for" in card
    assert calls(path)[1]["class_labels"] == [0, 0, 0, 0]


def test_a_walk_of_any_grid_that_starts_at_one_level(tmp_path, monkeypatch):
    generator = student(FixedGrid([60.0, 2.5]), (2,), size=16, channels=3)
    export_diffusers(generator, tmp_path / "pipeline")
    assert list(calls(tmp_path / "pipeline")) == [2]
    images = pipeline_images(tmp_path / "pipeline", 2, monkeypatch)
    expected = own_images(generator, 2, monkeypatch)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def test_steps_picks_what_the_card_shows(tmp_path):
    export_diffusers(student(), tmp_path / "pipeline", 2)
    assert list(calls(tmp_path / "pipeline")) == [2]
    export_diffusers(student(), tmp_path / "pipeline", 1)
    assert list(calls(tmp_path / "pipeline")) == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["pipeline"]


@pytest.mark.parametrize(
    "levels",
    [[80.0], [80.0, 0.821], [80.0, 1.0, 0.3], [80.0, 9.0, 2.0, 0.5, 0.0021], [3.0, 2.999, 0.01]],
)
def test_the_grid_of_the_scheduler_holds_the_levels(levels):
    count, timesteps = timestep_grid(levels, 0.002)
    scheduler = CMStochasticIterativeScheduler(
        num_train_timesteps=count, sigma_min=0.002, sigma_max=levels[0]
    )
    scheduler.set_timesteps(timesteps=timesteps[::-1])
    expected = torch.tensor(levels, dtype=torch.float64)
    # The scheduler rounds its levels to float32; its timesteps are 250 log sigma in float64.
    error = scheduler.timesteps / 250 - expected.log()
    assert error.abs().max() <= 1e-7
    torch.testing.assert_close(scheduler.sigmas[:-1].double(), expected, rtol=2e-7, atol=0)
    assert timesteps[0] == 0
    assert count > len(levels) + 1, "the scheduler takes its last point for the end"


def test_more_levels_than_a_grid_can_hold_are_refused(monkeypatch):
    monkeypatch.setattr("kdlight.export.consistency.FINEST", 1 << 15)
    levels = torch.linspace(math.log(80), math.log(0.0021), 9).exp().tolist()
    with pytest.raises(InputError, match=r"sigmas: no Karras grid .* these 9 .* fewer steps"):
        timestep_grid(levels, 0.002)


def two_starts():
    grid = KarrasGrid(0.002, 80.0)
    grid.sigmas = lambda steps: torch.tensor([80.0, 1.0, 0.0] if steps == 2 else [40.0, 0.0])
    return student(grid, (1, 2))


def perceptron():
    mlp = ScaleShiftMLP((1, 8, 8), 8, 1, embedding=8)
    return Generator(ConsistencyDenoiser(mlp), PrefixGrid([80.0]), (1, 8, 8), "consistency", (1,))


def blended():
    denoiser = BoundaryDenoiser(EDMDenoiser(network()))
    return Generator(denoiser, PrefixGrid([80.0]), (1, 8, 8), "consistency", (1,))


@pytest.mark.parametrize(
    ("make", "steps", "message"),
    [
        (lambda: student(noise_scale=1.0), 1, "noise_scale: .* expected 1000, found 1.0: export"),
        (lambda: student(interval=True), 1, "interval: diffusers does not tell .*: export"),
        (lambda: student(size=(8, 16)), 1, "size: .* square images, found 8 x 16: export"),
        (lambda: student(algorithm="euler"), 2, "algorithm: .* with consistency, found euler"),
        (lambda: student(KarrasGrid(0.002, 80.0), (2,)), 2, "above sigma_min 0.002, found 0.002"),
        (student, 4, "samples in 1, 2, 3 steps, found 4"),
        (two_starts, None, "grid: .* one noise level, found 40 and 80: .* one number of steps"),
        (perceptron, 1, "ScaleShiftMLP .* needs a UNet2D: export to safetensors"),
        (
            blended,
            1,
            "BoundaryDenoiser .* needs a VPDenoiser, an EDMDenoiser or a ConsistencyDenoiser",
        ),
    ],
)
def test_what_diffusers_cannot_run_is_refused_in_one_sentence(tmp_path, make, steps, message):
    with pytest.raises(InputError, match=message) as caught:
        export_diffusers(make(), tmp_path / "pipeline", steps)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
