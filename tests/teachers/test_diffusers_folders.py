"""Folders of diffusers of other kinds than DDIM's: consistency, flow matching, pure noise."""

from pathlib import Path

import diffusers
import pytest
import torch

from kdlight.diffusion.coordinates import FlowDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser
from kdlight.diffusion.sigmas import FlowGrid
from kdlight.errors import InputError
from kdlight.teachers.diffusion import diffusers_teacher


def unet(outputs: int = 1) -> diffusers.UNet2DModel:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=outputs,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def noise() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def drawn(pipeline: diffusers.DiffusionPipeline, **settings: object) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    images = pipeline(2, generator=generator, output_type="pt", **settings).images
    return 2 * images - 1


@torch.no_grad()
def test_consistency_model(tmp_path: Path) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    diffusers.ConsistencyModelPipeline(unet(), scheduler).save_pretrained(tmp_path)
    teacher = diffusers_teacher(str(tmp_path))
    assert isinstance(teacher.denoiser, ConsistencyDenoiser)
    assert (teacher.steps, teacher.algorithm, teacher.any_steps) == ((1, 2), "consistency", False)
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path)
    expected = drawn(pipeline, num_inference_steps=1)
    torch.testing.assert_close(teacher(noise()).clamp(-1, 1), expected, rtol=0, atol=1e-5)
    scheduler.set_timesteps(timesteps=[22, 0])  # the scheduler turns the list around
    assert float(teacher.grid.sigmas(2)[1]) == pytest.approx(float(scheduler.sigmas[1]), rel=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@torch.no_grad()
def test_flow_matching(shift: float, tmp_path: Path) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    model = unet()
    model.save_pretrained(tmp_path)
    scheduler.save_pretrained(tmp_path)
    teacher = diffusers_teacher(str(tmp_path), steps=4)
    assert isinstance(teacher.denoiser, FlowDenoiser)
    scheduler.set_timesteps(4)
    x = noise()
    for timestep in scheduler.timesteps:
        x = scheduler.step(model(x, timestep).sample, timestep, x).prev_sample
    # Time 1 has no finite noise level: the first step starts at 0.99998.
    torch.testing.assert_close(teacher(noise()), x, rtol=0, atol=5e-4)
    diffusers.FlowMatchHeunDiscreteScheduler(shift=shift).save_pretrained(tmp_path)
    assert diffusers_teacher(str(tmp_path)).algorithm == "heun"
    dynamic = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    dynamic.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="use_dynamic_shifting: expected none, found True"):
        diffusers_teacher(str(tmp_path))


def test_levels_of_a_flow() -> None:
    assert FlowGrid().sigmas(4).tolist() == pytest.approx([2**16, 3, 1, 1 / 3, 0])
    shifted = FlowGrid(shift=3.0, last=0.5, sigma_max=100).sigmas(3)
    assert shifted.tolist() == pytest.approx([100, 9, 3, 0])
    with pytest.raises(InputError, match="shift: expected a number above 0, found 0"):
        FlowGrid(shift=0)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
@torch.no_grad()
def test_a_schedule_that_ends_in_pure_noise(schedule: str, tmp_path: Path) -> None:
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=schedule,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    diffusers.DDIMPipeline(unet(), scheduler).save_pretrained(tmp_path)
    teacher = diffusers_teacher(str(tmp_path), steps=4)
    expected = drawn(diffusers.DDIMPipeline.from_pretrained(tmp_path), num_inference_steps=4)
    torch.testing.assert_close(teacher(noise()).clamp(-1, 1), expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_eulers_own_end_in_pure_noise(tmp_path: Path) -> None:
    """Its last alpha_bar, 2 ** -24, lies above the one before it in a schedule of zero SNR."""
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    diffusers.DDIMPipeline(unet(), scheduler).save_pretrained(tmp_path)
    table = diffusers_teacher(str(tmp_path)).denoiser.alphas_cumprod
    assert table.diff().max() < 0
    assert table[-1] > 0


@torch.no_grad()
def test_a_learned_variance_is_left_out(tmp_path: Path) -> None:
    model = unet(2)
    diffusers.DDPMPipeline(model, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    teacher = diffusers_teacher(str(tmp_path))
    network = teacher.denoiser.network
    expected = model(noise(), 500).sample[:, :1]
    output = network(noise(), torch.full((2,), 500.0))
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    unet(3).save_pretrained(tmp_path / "unet")
    with pytest.raises(InputError, match="out_channels: expected 1 as in_channels, or 2 with"):
        diffusers_teacher(str(tmp_path))


@torch.no_grad()
def test_weights_of_half_precision_alone_and_in_shards(tmp_path: Path) -> None:
    model = unet()
    for name, settings in (
        ("half", {"variant": "fp16"}),
        ("shards", {"max_shard_size": "10KB"}),
    ):
        folder = tmp_path / name
        written = unet().half() if name == "half" else model
        written.save_pretrained(folder, **settings)
        diffusers.DDIMScheduler().save_pretrained(folder)
        files = list(folder.glob("*.safetensors"))
        assert len(files) > 1 or ".fp16." in files[0].name
        network = diffusers_teacher(str(folder)).denoiser.network
        output = network(noise(), torch.full((2,), 500.0))
        assert output.dtype == torch.float32
        expected = written.float()(noise(), 500).sample
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
