import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
)

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentConsistencyDenoiser, SkippingGrid
from kdlight.errors import InputError
from kdlight.export.diffusers import export_diffusers
from kdlight.export.pipeline import ADAPTERS
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.networks.lora import Adapters
from kdlight.storage.files import load_model, save_model
from kdlight.teachers.latent import latent_teacher
from kdlight.training.optim import Optimization
from modules.diffusion.latent_consistency import LatentConsistency
from tests.modules.diffusion.latent import write_pipeline

PROMPTS = ["a cat", "dogs"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: write_pipeline(root / kind, kind) for kind in ("epsilon", "v_prediction")}


def student(folder, **kwargs):
    """A generator as a run ends in, its new weights moved away from zero."""
    torch.manual_seed(0)
    module = LatentConsistency(
        latent_teacher(folder, PROMPTS), Optimization(), iterations=5, **kwargs
    )
    ((_, generator),) = module.generators().values()
    for name, parameter in generator.denoiser.named_parameters():
        if "cond_proj" in name or "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return generator.eval()


def own(generator, steps, seed=3):
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(7)
    pictures = generator(noise, {"label": torch.tensor([0, 1])}, steps)
    return noise, (pictures / 2 + 0.5).clamp(0, 1)


def theirs(pipeline, noise, steps, guidance):
    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(7)  # the scheduler's fresh noise comes from the global generator too
    return pipeline(
        PROMPTS,
        latents=noise.clone(),
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
    ).images


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_stock_diffusers_gives_the_same_pictures(tmp_path, folders, prediction, steps):
    generator = student(folders[prediction], sample_guidance=8.3, guidance_dim=16)
    export_diffusers(generator, tmp_path / "student", steps)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "student")
    assert type(pipeline) is StableDiffusionPipeline
    assert type(pipeline.scheduler) is LCMScheduler
    noise, expected = own(generator, steps)
    assert ((expected > 0) & (expected < 1)).float().mean() > 0.5
    found = theirs(pipeline, noise, steps, 8.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # And the guidance is heard.
    assert (theirs(pipeline, noise, steps, 3.0) - expected).abs().max() > 1e-4


def test_one_fixed_guidance_and_other_skips_give_the_same_pictures(tmp_path, folders):
    settings = {"guidance_dim": 0, "guidance_scale": [8.0, 8.0], "skip": 30}
    generator = student(folders["epsilon"], **settings)
    export_diffusers(generator, tmp_path / "student", 2)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "student")
    noise, expected = own(generator, 2)
    torch.testing.assert_close(theirs(pipeline, noise, 2, 1.0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [None, 8.0])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_adapters_on_the_stock_pipeline_give_the_same_pictures(tmp_path, folders, steps, alpha):
    generator = student(
        folders["epsilon"],
        guidance_scale=[8.5, 8.5],
        guidance_dim=0,
        adapters=Adapters(rank=4, alpha=alpha),
    )
    path = tmp_path / "adapters"
    export_diffusers(generator, path, steps)
    base = tmp_path / "whole.safetensors"
    save_model(generator, base)
    assert (path / ADAPTERS).stat().st_size < base.stat().st_size / 2
    pipeline = StableDiffusionPipeline.from_pretrained(folders["epsilon"])
    pipeline.scheduler = LCMScheduler.from_pretrained(path)
    noise, expected = own(generator, steps)
    assert (theirs(pipeline, noise, steps, 1.0) - expected).abs().max() > 1e-3, "without them"
    pipeline.load_lora_weights(path)
    found = theirs(pipeline, noise, steps, 1.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("adapters", [None, Adapters(rank=2)])
def test_a_saved_student_is_rebuilt_with_its_surroundings(tmp_path, folders, adapters):
    generator = student(folders["epsilon"], guidance_dim=0 if adapters else 16, adapters=adapters)
    save_model(generator, tmp_path / "student.safetensors")
    again = load_model(tmp_path / "student.safetensors")
    assert torch.equal(own(again, 2)[1], own(generator, 2)[1])


def test_an_earlier_export_is_replaced_and_other_folders_are_not(tmp_path, folders):
    generator = student(folders["epsilon"], guidance_dim=16)
    export_diffusers(generator, tmp_path / "out", 1)
    (tmp_path / "out" / "stale").write_text("")
    export_diffusers(generator, tmp_path / "out", 2)
    assert not (tmp_path / "out" / "stale").exists()
    assert "num_inference_steps=2" in (tmp_path / "out" / "README.md").read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thing").touch()
    with pytest.raises(InputError, match="new folder or an earlier export"):
        export_diffusers(generator, tmp_path / "mine", 2)


def test_what_diffusers_cannot_run_is_refused(tmp_path, folders):
    def refused(generator, message, steps=1):
        with pytest.raises(InputError, match=message):
            export_diffusers(generator, tmp_path / "out", steps)
        assert not (tmp_path / "out").exists()

    folder = folders["epsilon"]
    refused(student(folder, guidance_dim=16), "steps: expected 1 to 50", steps=51)
    refused(student(folder, guidance_dim=16, sigma_data=1.0), "sigma_data: LCMScheduler has 0.5")
    pixels = UNet2DCondition(8, 1, guidance_dim=16, block_out_channels=(8, 8))
    plain = LatentConsistencyDenoiser(pixels)
    drawn = Generator(plain, SkippingGrid(), (1, 8, 8), "consistency")
    refused(drawn, "LatentConsistencyDenoiser cannot become a diffusers pipeline")
    refused(latent_teacher(folder), "needs a network and an autoencoder of one")
