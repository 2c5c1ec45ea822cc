"""Latent consistency in training: what moves, adapters, pipelines, runs, refusals."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
)
from PIL import Image

from datamodules.images.latents import CaptionedLatentsDataModule
from datamodules.images.prompts import PromptsDataModule
from kdlight.diffusion.curricula import ConstantDecay
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.networks.lora import AdaptedNetwork, Adapters
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.teachers.latent import latent_teacher
from kdlight.teachers.pipelines.text import TextEncoder
from tests.exactness.harness import fit
from tests.modules.diffusion.latent import write_pipeline
from tests.modules.diffusion.latent_consistency_examples import method, teacher, told, unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("pipelines") / "tiny")


# Gradients -----------------------------------------------------------------------------------


def trained_names(module):
    return {name for name, each in module.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("decay", [None, ConstantDecay(0.95)])
@pytest.mark.parametrize("adapters", [None, Adapters(rank=2)])
def test_no_gradient_but_into_the_student(decay, adapters):
    module = method(target_decay=decay, adapters=adapters, guidance_dim=0 if adapters else 16)
    before = {name: each.clone() for name, each in module.named_parameters()}
    module = fit(module)
    names = trained_names(module)
    if adapters:
        assert names == {name for name in before if name.startswith("student.") and "lora_" in name}
    else:
        assert names == {name for name in before if name.startswith("student.")}
    for name, each in module.named_parameters():
        moves = name.startswith(("student.", "target.", "ema.")) and (
            not adapters or "lora_" in name
        )
        if not moves:
            assert torch.equal(each, before[name]), name
    assert not torch.equal(
        *(
            torch.cat([each[name].flatten() for name in sorted(names)])
            for each in (before, dict(module.named_parameters()))
        )
    )


def test_the_target_is_what_mu_says():
    module = method(iterations=1, target_decay=ConstantDecay(0.95))
    start = copy.deepcopy(module.student.state_dict())
    module = fit(module)
    for name, tensor in module.target.module.state_dict().items():
        if tensor.is_floating_point():
            moved = module.student.state_dict()[name]
            expected = start[name].lerp(moved, 0.05)
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def adapted(network, **kwargs):
    made = AdaptedNetwork(copy.deepcopy(network), **{"rank": 2, **kwargs})
    return made


def test_adapters_start_at_zero_and_can_be_merged():
    network = unet().eval()
    made = adapted(network, alpha=5.0).eval()
    arguments = told()
    with torch.no_grad():
        torch.testing.assert_close(made(*arguments), network(*arguments), rtol=0, atol=1e-5)
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        changed = made(*arguments)
        assert (changed - network(*arguments)).abs().max() > 0.05
        merged = made.merged()
        assert type(merged) is UNet2DCondition
        torch.testing.assert_close(merged(*arguments), changed, rtol=1e-5, atol=1e-5)


def test_only_adapters_learn_and_copies_share_the_rest():
    made = adapted(unet())
    twin = copy.deepcopy(made)
    for (name, mine), (_, other) in zip(
        made.named_parameters(), twin.named_parameters(), strict=True
    ):
        assert mine.requires_grad == ("lora_" in name)
        assert (mine is other) == ("lora_" not in name)
    small = sum(each.numel() for each in made.adapters().values())
    assert small == sum(each.numel() for each in made.parameters() if each.requires_grad)


def test_the_scale_is_alpha_over_rank():
    network = unet().eval()
    arguments = told()
    outputs = []
    for alpha, factor in ((2.0, 1.0), (1.0, 2.0)):
        made = adapted(network, alpha=alpha).eval()
        with torch.no_grad():
            torch.manual_seed(1)
            for name, parameter in made.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(parameter, std=0.3)
                if "lora_B" in name:
                    parameter *= factor
            outputs.append(made(*arguments))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


# A pipeline as teacher, its data, a run ------------------------------------------------------


def test_the_teacher_samples_as_its_pipeline(folder):
    made = latent_teacher(folder, ["a cat", "dogs"], guidance_scale=5.0)
    assert made.num_classes == 2
    assert made.shape == (4, 8, 8)
    noise = torch.randn(2, 4, 8, 8)
    found = made(noise, {"label": torch.tensor([0, 1])}, 10) / 2 + 0.5
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    expected = pipeline(
        ["a cat", "dogs"],
        latents=noise,
        num_inference_steps=10,
        guidance_scale=5.0,
        output_type="pt",
    ).images
    torch.testing.assert_close(found.clamp(0, 1), expected, rtol=0, atol=2e-5)


@pytest.fixture
def pictures(tmp_path):
    source = np.random.default_rng(0)
    for index in range(8):
        pixels = source.integers(0, 256, (20, 18, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(["a cat", "a dog"][index % 2])
    return tmp_path


def data(pictures, folder, **kwargs):
    settings = {"size": 16, "heldout": 0.25, "device": "cpu", "batch_size": 3, **kwargs}
    return CaptionedLatentsDataModule(str(pictures), folder, **settings)


def test_captioned_pictures_are_encoded_once(pictures, folder, monkeypatch):
    module = data(pictures, folder)
    assert module.shape == (4, 8, 8), "known before anything is encoded"
    assert not (pictures / ".latents").exists()
    module.prepare_data()
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (3, 4, 8, 8)
    assert batch["text"].shape == (3, 6, 8)
    assert module.whole("reference").shape == (6, 3, 16, 16)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    known = pipeline.encode_prompt(["a cat", "a dog"], "cpu", 1, False)[0]
    for text in batch["text"]:
        assert any(torch.allclose(text, each, atol=2e-3) for each in known)
    latent = module.splits.heldout[(0, 0)]["image"]
    decoded = module.whole("heldout")[:1]
    with torch.no_grad():
        mean = pipeline.vae.encode(decoded).latent_dist.mean * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(latent, mean[0], rtol=0, atol=2e-3)
    (cache,) = (pictures / ".latents").iterdir()
    again = data(pictures, folder)
    monkeypatch.setattr(again, "_encode", lambda: pytest.fail("encoded again"))
    again.prepare_data()
    (pictures / "0.txt").write_text("another")
    assert data(pictures, folder)._file != cache


def test_captions_are_left_out_as_often_as_asked(pictures, folder):
    module = data(pictures, folder, text_dropout=0.5)
    samples, held = module.splits.training, module.splits.heldout
    null = samples.null["text"].float()
    keys = [(index, epoch) for index in range(6) for epoch in range(50)]
    gone = [torch.equal(samples[key]["text"], null) for key in keys]
    assert 0.4 < sum(gone) / len(gone) < 0.6
    assert gone == [torch.equal(samples[key]["text"], null) for key in keys], "the same again"
    assert not any(torch.equal(held[(index, 0)]["text"], null) for index in range(2))
    with pytest.raises(InputError, match="text_dropout: expected a fraction"):
        data(pictures, folder, text_dropout=1.0)


def test_prompts_alone(folder, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\n\ndogs\n")
    module = PromptsDataModule(str(file), folder, size=16, batch_size=4, device="cpu")
    assert module.shape == (4, 8, 8)
    batch = next(iter(module.train_dataloader()))
    assert batch["noise"].shape == (4, 4, 8, 8)
    known = TextEncoder(folder)(["a cat", "dogs"])["text"].half().float()
    for text in batch["text"]:
        assert any(torch.allclose(text, each, atol=2e-3) for each in known)
    again = PromptsDataModule(str(file), folder, size=16, batch_size=4, device="cpu")
    again.prepare_data = lambda: None  # embedded already
    other = next(iter(again.train_dataloader()))
    assert all(torch.equal(batch[name], other[name]) for name in batch)
    file.write_text("\n")
    with pytest.raises(InputError, match="prompts.txt: expected a prompt a line, found none"):
        PromptsDataModule(str(file), folder).prepare_data()


def test_bad_data_are_refused(pictures, folder):
    (pictures / "3.txt").unlink()
    with pytest.raises(InputError, match=r"3\.png: expected its caption in 3\.txt"):
        data(pictures, folder).prepare_data()
    with pytest.raises(InputError, match="no such folder"):
        data(pictures / "nowhere", folder).prepare_data()
    with pytest.raises(InputError, match="size: expected a multiple of 2 .* found 15"):
        _ = data(pictures, folder, size=15).shape
    with pytest.raises(InputError, match="heldout: expected a fraction"):
        data(pictures, folder, heldout=1.0)


@pytest.mark.parametrize("adapters", [None, Adapters(rank=2)])
def test_a_pipeline_is_distilled_on_captioned_pictures(pictures, folder, adapters):
    made = latent_teacher(folder, ["a cat", "a dog"])
    module = method(teacher=made, adapters=adapters, guidance_dim=0 if adapters else 16)
    module = fit(module, data(pictures, folder))
    assert module.non_finite_total == 0
    ((_, generator),) = module.generators().values()
    drawn = generator(torch.randn(2, 4, 8, 8), {"label": torch.tensor([0, 1])}, 2)
    assert drawn.shape == (2, 3, 16, 16)
    assert drawn.isfinite().all()
    assert set(module.frozen) == {"teacher", "augmented"}
    kept = {name.partition(".")[0] for name in module.state_dict()}
    assert not kept & set(module.frozen)


# Refusals ------------------------------------------------------------------------------------


def test_bad_settings_are_one_sentence():
    mlp = ScaleShiftMLP((1, 4, 4), 8, 1, num_classes=2, embedding=8)
    plain = teacher(mlp)
    cases = [
        (lambda: method(guidance_scale=[5.0]), "guidance_scale: expected the smallest and"),
        (lambda: method(guidance_scale=[0.5, 3.0]), "at least 1, found"),
        (lambda: method(guidance_scale=[5.0, 3.0]), "guidance_scale: expected"),
        (lambda: method(skip=0), "skip: expected 1 to 500"),
        (lambda: method(skip=501), "skip: expected 1 to 500"),
        (lambda: method(steps=[51]), "steps: expected numbers from 1 to 50"),
        (lambda: method(steps=[]), "steps: expected numbers"),
        (lambda: method(guidance_dim=15), "guidance_dim: expected 0 or an even number"),
        (lambda: method(sigma_data=0.0), "sigma_data: expected a number above 0"),
        (lambda: method(teacher=plain), "guidance_dim: expected 0 for a ScaleShiftMLP"),
        (
            lambda: method(teacher=plain, guidance_dim=0, adapters=Adapters()),
            "adapters: expected null for a ScaleShiftMLP",
        ),
        (lambda: Adapters(rank=0), "rank: expected at least 1"),
        (lambda: Adapters(alpha=0.0), "alpha: expected a number above 0"),
        (lambda: adapted(unet(), layers=["nowhere"]), "layers: the network has no layer called"),
    ]
    for make, message in cases:
        with pytest.raises(InputError, match=message):
            make()
    edm = Generator(EDMDenoiser(mlp), KarrasGrid(), (1, 4, 4))
    with pytest.raises(InputError, match="teacher: expected a model with variance-preserving"):
        method(teacher=edm)


def test_any_network_learns_one_fixed_scale():
    mlp = ScaleShiftMLP((1, 4, 4), 8, 1, num_classes=2, embedding=8)
    module = fit(method(teacher=teacher(mlp), guidance_dim=0, guidance_scale=[4.0, 4.0]))
    assert module.iteration == 3


def test_other_pipelines_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        latent_teacher(str(tmp_path / "nowhere"))
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    for file in (copied / "vae").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(InputError, match="vae: no safetensors weights; pickled"):
        latent_teacher(str(copied))
    index = json.loads((copied / "model_index.json").read_text())
    index["unet"][1] = "UNet2DModel"
    (copied / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="whose unet is a UNet2DConditionModel, found UNet2DModel"):
        latent_teacher(str(copied))
