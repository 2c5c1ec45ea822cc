"""A teacher read from a pipeline's folder samples as the stock pipeline does, guided."""

from pathlib import Path

import diffusers
import pytest
import torch

from kdlight.diffusion.coordinates import FlowDenoiser
from kdlight.diffusion.denoisers import GuidedDenoiser
from kdlight.diffusion.samplers import sample_euler
from kdlight.networks.images.transformers import packed, unpacked
from kdlight.teachers.pipelines.network import in_coordinates, read_network
from tests.modules.diffusion.pipelines import write_family
from tests.modules.diffusion.test_latent_matrix import drawn_by_dit

STEPS = 4


def seeded(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", ["sdxl", "dit", "sd3"])
def test_a_teacher_samples_as_its_pipeline(family, teachers, folders):
    teacher = teachers(family)
    noise = seeded(2, *teacher.shape)
    found = (teacher(noise, {"label": torch.tensor([0, 1])}, STEPS) / 2 + 0.5).clamp(0, 1)
    kept = {"text_encoder_3": None, "tokenizer_3": None} if family == "sd3" else {}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folders(family), **kept)
    pipeline.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": STEPS, "guidance_scale": 2.0}
    if family == "dit":
        # Its own leading timesteps end at noise above 0; ours are trailing.
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
        expected = drawn_by_dit(pipeline, noise, arguments)
    else:
        if family == "sdxl":
            # Euler starts at sigma times the noise, for a network that expects a little more.
            sigma = teacher.grid.sigmas(STEPS)[0]
            noise = ((1 + sigma**2).sqrt() / sigma).float() * noise
        arguments |= {"latents": noise, "output_type": "pt"}
        expected = pipeline(["a cat", "dogs"], **arguments).images
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert expected.std() > 1e-3


def by_embedding(family, path):
    """A denoiser of a pipeline that is read without its text encoders, and what it is told."""
    root = Path(write_family(family, path))
    names = {"flux": ("text", "pooled")}.get(family, ("text", "text_mask"))
    shapes = {"text": (5, 12), "pooled": (10,), "text_mask": (5,)}
    told = {name: seeded(2, *shapes[name], seed=i) for i, name in enumerate(names)}
    null = {name: seeded(*shapes[name], seed=9 + i) for i, name in enumerate(names)}
    if "text_mask" in names:
        told["text_mask"] = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        null["text_mask"] = torch.tensor([1.0, 1, 0, 0, 0])
    size = 8 if family == "flux" else None
    network = read_network(root, null, size)
    return root, network, told, null


@pytest.mark.parametrize("family", ["flux", "pixart", "sana"])
def test_latents_are_the_pipelines_own(family, tmp_path):
    root, network, told, null = by_embedding(family, tmp_path / family)
    denoiser, grid = in_coordinates(root, network)
    noise, levels = seeded(2, *network.shape), grid.sigmas(STEPS)
    guided = GuidedDenoiser(denoiser, 1.0 if family == "flux" else 3.0)
    found = sample_euler(guided, denoiser.prior(noise, levels[0]), levels, told)
    kind = {
        "flux": diffusers.FluxPipeline,
        "pixart": diffusers.PixArtSigmaPipeline,
        "sana": diffusers.SanaPipeline,
    }[family]
    absent = {"text_encoder": None, "tokenizer": None}
    absent |= {"text_encoder_2": None, "tokenizer_2": None} if family == "flux" else {}
    pipeline = kind.from_pretrained(root, **absent)
    pipeline.set_progress_bar_config(disable=True)
    rows = {name: tensor.expand(2, *tensor.shape) for name, tensor in null.items()}
    size = 2 * network.shape[1]
    arguments = {"num_inference_steps": STEPS, "output_type": "latent", "height": size}
    arguments |= {"width": size, "prompt_embeds": told["text"]}
    if family == "flux":
        latents = pipeline(
            pooled_prompt_embeds=told["pooled"],
            latents=packed(noise),
            guidance_scale=3.5,
            **arguments,
        ).images
        expected = unpacked(latents, network.shape[1] // 2, network.shape[2] // 2)
    else:
        expected = pipeline(
            negative_prompt=None,
            prompt_attention_mask=told["text_mask"],
            negative_prompt_embeds=rows["text"],
            negative_prompt_attention_mask=rows["text_mask"],
            latents=noise,
            guidance_scale=3.0,
            use_resolution_binning=False,
            **arguments,
        ).images
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_a_solver_that_walks_flows_is_one_of_flow_matching(tmp_path):
    root, network, *_ = by_embedding("sana", tmp_path / "sana")
    solver = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    solver.save_pretrained(root / "scheduler")
    denoiser, grid = in_coordinates(root, network)
    assert type(denoiser) is FlowDenoiser
    assert (denoiser.time_scale, denoiser.sigma_data, grid.shift) == (1000.0, 1.0, 3.0)


def test_packing_is_undone():
    x = seeded(2, 3, 4, 6)
    assert torch.equal(unpacked(packed(x), 2, 3), x)
    assert torch.equal(packed(x)[0, 1, :4], x[0, 0, :2, 2:4].flatten())
