"""Latent consistency distillation: closed forms, guidance, adapters, data, refusals."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
)

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import Denoiser, GuidedDenoiser
from kdlight.diffusion.latent import LatentConsistencyDenoiser, SkippingGrid
from kdlight.diffusion.samplers import euler_step
from kdlight.diffusion.schedules import alphas_cumprod_of, sigma_from_alpha_bar
from kdlight.errors import InputError
from kdlight.losses.progressive import teacher_walk
from kdlight.networks.images.unet_condition import guidance_embedding
from tests.exactness.harness import fit
from tests.modules.diffusion.latent_consistency_examples import method, unet

SIGMAS = sigma_from_alpha_bar(alphas_cumprod_of("scaled_linear"))


class Constant(torch.nn.Module):
    """A network that answers the label, 1 for none."""

    num_classes = 2

    def forward(self, x, noise, condition=None):
        label = (condition or {}).get("label")
        return torch.ones_like(x) if label is None else label.to(x).reshape(-1, 1, 1, 1) * x


# The consistency function --------------------------------------------------------------------


def test_scalings_at_known_timesteps():
    denoiser = LatentConsistencyDenoiser(Constant())
    timestep = torch.tensor([0.0, 1.0, 19.0, 999.0])
    c_skip, c_out = denoiser.scalings(timestep)
    expected = [1.0, 0.25 / 100.25, 0.25 / 36100.25, 0.25 / 99800100.25]
    torch.testing.assert_close(c_skip, torch.tensor(expected, dtype=torch.float64))
    expected = [0.0, 10 / 100.25**0.5, 190 / 36100.25**0.5, 9990 / 99800100.25**0.5]
    torch.testing.assert_close(c_out, torch.tensor(expected, dtype=torch.float64))
    scheduler = LCMScheduler()
    for index, each in enumerate((0, 1, 19, 999)):
        skip, out = scheduler.get_scalings_for_boundary_condition_discrete(each)
        assert c_skip[index].item() == pytest.approx(skip, rel=1e-12)
        assert c_out[index].item() == pytest.approx(out, rel=1e-12)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_it_is_the_identity_of_z_at_timestep_0(prediction):
    network = unet(guidance_dim=16)
    denoiser = LatentConsistencyDenoiser(network, "scaled_linear", prediction)
    z = torch.randn(3, 1, 4, 4)
    x = z.double() * (1 + SIGMAS[0] ** 2).sqrt()
    found = denoiser(x, SIGMAS[0])
    torch.testing.assert_close(found, z.double(), rtol=0, atol=1e-15)
    assert (denoiser(x, SIGMAS[500]) - z).abs().max() > 1e-2


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("skip", [10, 20])
def test_walks_take_the_timesteps_of_the_lcm_scheduler(steps, skip):
    scheduler = LCMScheduler(original_inference_steps=1000 // skip)
    scheduler.set_timesteps(steps)
    found = SkippingGrid("scaled_linear", skip).sigmas(steps)
    assert torch.equal(found, torch.cat([SIGMAS[scheduler.timesteps], torch.zeros(1)]))


def test_solver_steps_end_where_the_next_begins_and_the_first_at_timestep_0():
    starts, ends = SkippingGrid("scaled_linear", 20).pairs()
    assert len(starts) == 50
    assert torch.equal(starts, SIGMAS[19::20])
    assert torch.equal(ends[1:], starts[:-1])
    assert ends[0] == SIGMAS[0]


# The augmented walk --------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_guided_step_is_that_of_diffusers_ddim(prediction):
    network = unet().double()
    source = VPDenoiser(network, "scaled_linear", prediction)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction,
    )
    scheduler.alphas_cumprod = alphas_cumprod_of("scaled_linear")
    scheduler.set_timesteps(50)  # steps of 20
    z = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    label, guidance = torch.tensor([0, 1, 0, 1]), torch.tensor([1.0, 3.0, 7.5, 15.0]).double()
    here, there = 619, 599
    with torch.no_grad():
        time = torch.full((4,), float(here))
        conditional, none = network(z, time, {"label": label}), network(z, time)
        w = (guidance - 1).reshape(-1, 1, 1, 1)
        output = conditional + w * (conditional - none)
        expected = scheduler.step(output, here, z).prev_sample
        x = z * (1 + SIGMAS[here] ** 2).sqrt()
        levels = SIGMAS[[here, there]].expand(4, 2)
        condition = {"label": label, "guidance": guidance}
        walked = teacher_walk(GuidedDenoiser(source), x, levels, condition)
    found = walked / (1 + SIGMAS[there] ** 2).sqrt()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_guided_step_is_the_sum_of_two_steps():
    """``psi`` is the increment of a step: equation 13 of the paper."""
    source = VPDenoiser(unet().double(), "scaled_linear", "epsilon")
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64) * SIGMAS[619]
    here, there, label = SIGMAS[619], SIGMAS[599], torch.tensor([0, 1])
    with torch.no_grad():
        steps = [
            euler_step(x, source(x, here, condition), here, there) - x
            for condition in ({"label": label}, {})
        ]
        guided = GuidedDenoiser(source)(
            x, here, {"label": label, "guidance": torch.full((2,), 8.0)}
        )
    expected = x + 8 * steps[0] - 7 * steps[1]
    torch.testing.assert_close(euler_step(x, guided, here, there), expected, rtol=0, atol=1e-12)


def test_text_and_label_are_what_guidance_leaves_out():
    told = []

    class Listener(Denoiser):
        def forward(self, x, sigma, condition=None):
            told.append(set(condition or {}))
            return x

    guided = GuidedDenoiser(Listener(0.1, 1.0), 2.0)
    x, text = torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 4)
    guided(x, torch.tensor(1.0), {"text": text, "augment": x, "guidance": torch.ones(1) * 3})
    assert told == [{"text", "augment"}, {"augment"}]
    told.clear()
    guided(x, torch.tensor(1.0), {"text": text, "guidance": torch.ones(1)})
    guided(x, torch.tensor(1.0), {"guidance": torch.ones(1) * 3})
    assert told == [{"text"}, set()], "one call where guidance changes nothing"


# The guidance scale --------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [4, 16, 256])
def test_guidance_is_embedded_as_diffusers_does(dim):
    scales = [1.0, 2.5, 8.3, 15.0]
    reference = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    expected = [reference(None, torch.tensor(scale - 1)[None], dim) for scale in scales]
    found = guidance_embedding(torch.tensor(scales, dtype=torch.float64), dim)
    assert torch.equal(found, torch.cat(expected))


def test_a_student_starts_as_its_teacher_whatever_the_guidance():
    module = method()
    x, sigma = torch.randn(2, 1, 4, 4), SIGMAS[700]
    label, guidance = torch.tensor([0, 1]), torch.tensor([3.0, 9.0], dtype=torch.float64)
    with torch.no_grad():
        module.eval()
        mine = module.student(x, sigma, {"label": label, "guidance": guidance})
        expected = module.get_submodule("augmented").denoiser(x, sigma, {"label": label})
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="has to be told a guidance scale"):
        module.student.network(x, torch.ones(2), {"label": label})


def test_scales_are_drawn_from_the_whole_range(monkeypatch):
    seen = []

    def record(module, arguments):
        seen.append(arguments[2]["guidance"].clone())

    module = method(iterations=40, guidance_scale=[3.0, 15.0])
    module.student.register_forward_pre_hook(record)
    fit(module)
    scales = torch.cat(seen)
    assert scales.dtype == torch.float64
    assert 3 <= scales.min() < 3.5
    assert 14.5 < scales.max() < 15
    assert scales.mean().item() == pytest.approx(9, abs=0.5)


def test_sampling_takes_the_asked_scale():
    ((_, generator),) = method(sample_guidance=5.0).generators().values()
    assert generator.denoiser.guidance_scale == 5
    ((_, generator),) = method(guidance_scale=[2.0, 6.0]).generators().values()
    assert generator.denoiser.guidance_scale == 4
    assert generator.steps == (4, 2, 1)
    assert generator.accepts(50)
