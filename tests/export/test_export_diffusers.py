import json

import pytest
import torch
from diffusers import DDIMPipeline, DiffusionPipeline
from torch import nn

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.schedules import alphas_cumprod_of
from kdlight.diffusion.sigmas import CosineGrid, FixedGrid, TrailingGrid
from kdlight.errors import InputError
from kdlight.export.diffusers import export_diffusers
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.teachers.diffusion import diffusers_teacher


def network(**kwargs):
    torch.manual_seed(0)
    settings = {"size": 8, "channels": 1, "block_out_channels": (8, 8), **kwargs}
    return UNet2D(**settings)


def student(prediction="v_prediction", schedule="linear", steps=(1, 2, 4), **kwargs):
    denoiser = VPDenoiser(network(**kwargs), schedule, prediction)
    return Generator(denoiser, TrailingGrid(schedule), (1, 8, 8), "euler", steps).eval()


def pipeline_images(path, steps, seed=5):
    pipeline = DiffusionPipeline.from_pretrained(path)
    assert type(pipeline) is DDIMPipeline
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    return pipeline(4, generator, num_inference_steps=steps, output_type="pt").images


def own_images(generator, steps, seed=5):
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    images = generator(noise, steps=steps)
    # Most pixels must survive the clamp, or the comparison would say little.
    assert (images.abs() < 1).float().mean() > 0.5
    return (images / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_stock_diffusers_gives_the_same_images(tmp_path, prediction, schedule):
    generator = student(prediction, schedule)
    for steps in (1, 2, 4):
        export_diffusers(generator, tmp_path / f"{steps}", steps)
        images = pipeline_images(tmp_path / f"{steps}", steps)
        torch.testing.assert_close(images, own_images(generator, steps), rtol=0, atol=1e-5)


def test_student_of_progressive_distillation_with_written_levels(tmp_path):
    denoiser = VPDenoiser(network(), "cosine", "sample")
    grid = FixedGrid(TrailingGrid("cosine").sigmas(2).tolist())
    generator = Generator(denoiser, grid, (1, 8, 8), "euler", (2,), any_steps=False).eval()
    export_diffusers(generator, tmp_path / "pipeline", 2)
    images = pipeline_images(tmp_path / "pipeline", 2)
    torch.testing.assert_close(images, own_images(generator, 2), rtol=0, atol=1e-5)


def test_one_step_of_any_sampler_and_a_short_schedule(tmp_path):
    schedule = alphas_cumprod_of("cosine", 64).tolist()
    generator = student("sample", schedule)
    generator.algorithm = "heun"
    export_diffusers(generator, tmp_path / "pipeline", 1)
    images = pipeline_images(tmp_path / "pipeline", 1)
    torch.testing.assert_close(images, own_images(generator, 1), rtol=0, atol=1e-5)


def test_what_is_written_comes_back_as_a_teacher(tmp_path):
    generator = student("sample", "cosine", (4,))
    export_diffusers(generator, tmp_path / "pipeline", 4)
    again = diffusers_teacher(str(tmp_path / "pipeline"), steps=4)
    torch.testing.assert_close(own_images(again, 4), own_images(generator, 4), rtol=0, atol=1e-5)


def test_folder_is_whole_and_an_earlier_pipeline_is_replaced(tmp_path):
    path = tmp_path / "pipeline"
    export_diffusers(student("sample"), path, 1)
    (path / "stale").write_text("")
    export_diffusers(student("v_prediction"), path, 2)
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert files == {
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["pipeline"]
    assert "num_inference_steps=2" in (path / "README.md").read_text()
    scheduler = json.loads((path / "scheduler/scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["timestep_spacing"] == "trailing"
    assert not scheduler["clip_sample"]


def test_a_failing_export_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "pipeline"
    export_diffusers(student("sample"), path, 1)

    def fail(self, folder, **kwargs):
        (folder / "half").touch()
        raise OSError("disk full")

    monkeypatch.setattr(DDIMPipeline, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        export_diffusers(student("v_prediction"), path, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["pipeline"]
    assert "num_inference_steps=1" in (path / "README.md").read_text()


def edm():
    return Generator(EDMDenoiser(network()), CosineGrid(), (1, 8, 8), "euler")


def perceptron():
    mlp = ScaleShiftMLP((1, 8, 8), 8, 1, embedding=8)
    return Generator(VPDenoiser(mlp, "linear", "sample"), TrailingGrid(), (1, 8, 8), "euler")


def other_grid():
    generator = student()
    generator.grid = CosineGrid()
    return generator


def other_sampler():
    generator = student()
    generator.algorithm = "dpmpp_2m"
    return generator


def only_two_steps():
    generator = student(steps=(2,))
    generator.any_steps = False
    return generator


@pytest.mark.parametrize(
    ("make", "steps", "message"),
    [
        (lambda: student("epsilon"), 1, "epsilon is not exported .* vanishing alpha"),
        (lambda: student(num_classes=3), 1, "class-conditional .* safetensors"),
        (lambda: student(noise_scale=2.0), 1, "noise_scale: .* expected 1, found 2.0"),
        (
            edm,
            1,
            "noise_scale: with EDMDenoiser .* expected 1000, found 1.0: export to safetensors",
        ),
        (perceptron, 1, "ScaleShiftMLP .* needs a UNet2D: export to safetensors"),
        (other_grid, 2, "grid: .* trailing timesteps"),
        (other_sampler, 2, "algorithm: DDIMPipeline walks with euler, found dpmpp_2m"),
        (student, 3, "a divisor of 1000 steps, found 3"),
        (only_two_steps, 1, "samples in 2 steps, found 1"),
    ],
)
def test_what_diffusers_cannot_run_is_refused_in_one_sentence(tmp_path, make, steps, message):
    with pytest.raises(InputError, match=message) as caught:
        export_diffusers(make(), tmp_path / "pipeline", steps)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="expected a new folder or an earlier export"):
        export_diffusers(student(), tmp_path, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_weights_are_those_of_the_generator(tmp_path):
    generator = student("sample")
    nn.init.normal_(generator.denoiser.network.model.conv_out.weight)
    export_diffusers(generator, tmp_path / "pipeline", 1)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    for name, tensor in generator.denoiser.network.model.state_dict().items():
        assert torch.equal(pipeline.unet.state_dict()[name], tensor)
