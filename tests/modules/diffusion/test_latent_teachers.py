"""A teacher read from a pipeline's folder samples as the stock pipeline does, guided."""

import shutil

import diffusers
import pytest
import torch

from kdlight.diffusion.coordinates import FlowDenoiser
from kdlight.diffusion.sigmas import FlowGrid
from kdlight.diffusion.stretched_grid import StretchedGrid
from kdlight.diffusion.students import unguided
from kdlight.networks.images.transformers import packed, unpacked
from kdlight.teachers.pipelines.network import in_coordinates
from kdlight.teachers.pipelines.text import of_one_length
from tests.modules.diffusion.pipelines import FAMILIES, SIDES
from tests.modules.diffusion.test_latent_matrix import drawn, loaded

STEPS = 4


def seeded(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# How a pipeline is told of guidance at a scale of 2, where not by that.
SAID = {
    "flux": {"true_cfg_scale": 2.0, "negative_prompt": "", "guidance_scale": 3.5},
    "qwen": {"true_cfg_scale": 2.0, "negative_prompt": " "},
    "sana": {"guidance_scale": 2.0, "use_resolution_binning": False, "height": 32, "width": 32},
    "pixart": {"guidance_scale": 2.0, "use_resolution_binning": False},
}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "sd"])
def test_a_teacher_samples_as_its_pipeline(family, teachers, folders):
    teacher = teachers(family)
    noise = seeded(2, *teacher.shape)
    found = (teacher(noise, {"label": torch.tensor([0, 1])}, STEPS) / 2 + 0.5).clamp(0, 1)
    pipeline = loaded(folders(family), family)
    if family == "dit":
        # Its own leading timesteps end at noise above 0; ours are trailing.
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    if family == "sdxl":
        # Euler starts at sigma times the noise, for a network that expects a little more.
        sigma = teacher.grid.sigmas(STEPS)[0]
        noise = ((1 + sigma**2).sqrt() / sigma).float() * noise
    said = {"num_inference_steps": STEPS} | SAID.get(family, {"guidance_scale": 2.0})
    if family in SIDES:
        said |= {"height": SIDES[family], "width": SIDES[family]}
    expected = drawn(pipeline, family, noise, said)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert expected.std() > 1e-3


def test_a_solver_that_walks_flows_is_one_of_flow_matching(teachers, folders, tmp_path):
    root, network = tmp_path / "sana", unguided(teachers("sana")).network
    shutil.copytree(folders("sana"), root)
    solver = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    solver.save_pretrained(root / "scheduler")
    denoiser, grid = in_coordinates(root, network)
    assert type(denoiser) is FlowDenoiser
    assert (denoiser.time_scale, denoiser.sigma_data, grid.shift) == (1000.0, 1.0, 3.0)


def test_text_of_other_lengths_is_masked(teachers):
    network = unguided(teachers("qwen")).network
    x, noise = seeded(2, *network.shape), torch.tensor([0.3, 0.8])
    told = teachers("qwen").prompts.condition(torch.tensor([0, 1]))
    null = {name: network.get_buffer(f"null_{name}") for name in told}
    longer, same = of_one_length({name: rows[:, :9] for name, rows in told.items()}, null)
    assert longer["text"].shape[1] == same["text"].shape[0] == null["text"].shape[0]
    torch.testing.assert_close(
        network(x, noise, longer),
        network(x, noise, {name: rows[:, :9] for name, rows in told.items()}),
    )


def test_the_last_time_is_stretched_to():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=0.02)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    levels = StretchedGrid(FlowGrid(3.0, sigma_max=2.0**25), 0.02).sigmas(4)
    torch.testing.assert_close((levels / (1 + levels)).float(), scheduler.sigmas)
    one = FlowGrid(3.0).sigmas(1)
    assert torch.equal(StretchedGrid(FlowGrid(3.0), 0.02).sigmas(1), one)


def test_packing_is_undone():
    x = seeded(2, 3, 4, 6)
    assert torch.equal(unpacked(packed(x), 2, 3), x)
    assert torch.equal(packed(x)[0, 1, :4], x[0, 0, :2, 2:4].flatten())
