"""EDM2's files give the outputs of the networks in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from kdlight.commands.convert import run
from kdlight.diffusion.autoguidance import AutoguidedDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.latent import LatentGenerator
from kdlight.errors import InputError
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.teachers.diffusion import run_teacher
from kdlight.teachers.published.edm2 import edm2_teacher
from kdlight.teachers.published.edm2_latents import standardized
from tests.networks.edm.recipe import LABEL, SIGMA, filled, images
from tests.storage.persistence import EasyDict, Stored, preconditioned, stored, write
from tests.teachers.published.vae import vae_folder

CONDITION = {"label": LABEL}


def edm2_file(
    path: Path, num_classes: int = 10, channels: int = 4, **changes: Any
) -> tuple[Path, EDM2UNet]:
    """A small EDM2 in half precision, as the released ones, its settings partly by position."""
    network = filled(
        EDM2UNet(
            16,
            channels,
            num_classes,
            model_channels=64,
            channel_mult=(1, 2),
            num_blocks=1,
            attention=(8,),
        )
    ).half()
    arguments = {
        "img_resolution": 16,
        "model_channels": 64,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [8],
        **changes,
    }
    inner = stored(network, "UNet", arguments, filters=False)
    del inner.meta["state"]["_init_kwargs"]["img_resolution"]
    inner.meta["state"]["_init_args"] = (16, channels, num_classes)
    outer = preconditioned(inner, "Precond", sigma_data=0.5)
    outer.meta["state"]["_modules"]["unet"] = outer.meta["state"]["_modules"].pop("model")
    encoder = Stored("StabilityVAEEncoder", {"scale": np.full(4, 0.1, np.float32)})
    return write(path, EasyDict(encoder=encoder, ema=outer)), network.float()


@torch.no_grad()
def test_converted_outputs_are_equal(tmp_path: Path) -> None:
    path, network = edm2_file(tmp_path / "edm2.pkl")
    guide, lesser = edm2_file(tmp_path / "uncond.pkl", num_classes=0)
    expected = EDMDenoiser(network)(images(4), SIGMA, CONDITION)
    teacher = edm2_teacher(path)
    assert torch.equal(teacher.denoiser(images(4), SIGMA, CONDITION), expected)
    assert (teacher.shape, teacher.steps, teacher.num_classes) == ((4, 16, 16), (32,), 10)
    output = tmp_path / "teacher.safetensors"
    guiding = ["--guide", str(guide), "--guidance-scale", "1.4"]
    run("convert", ["edm2", str(path), str(output), *guiding])
    guided = run_teacher(str(output)).denoiser
    assert isinstance(guided, AutoguidedDenoiser)
    weak = EDMDenoiser(lesser)(images(4), SIGMA)
    found = guided(images(4), SIGMA, CONDITION)
    torch.testing.assert_close(found, weak + 1.4 * (expected - weak))


@torch.no_grad()
def test_latents_become_pictures(tmp_path: Path) -> None:
    path, _ = edm2_file(tmp_path / "edm2.pkl")
    folder = vae_folder(tmp_path / "vae")
    output = tmp_path / "teacher.safetensors"
    run("convert", ["edm2", str(path), str(output), "--autoencoder", folder, "--steps", "2"])
    teacher = run_teacher(str(output))
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    pictures = teacher(noise, CONDITION)
    latents = edm2_teacher(path, steps=2)(noise, CONDITION)
    vae = AutoencoderKL.from_pretrained(folder)
    raw = latents / 0.5 * torch.tensor([4.17, 4.62, 3.71, 3.28]).reshape(-1, 1, 1)
    raw = raw + torch.tensor([5.81, 3.25, 0.12, -2.15]).reshape(-1, 1, 1)
    torch.testing.assert_close(pictures, vae.decode(raw).sample)
    assert isinstance(teacher, LatentGenerator)
    encoded = teacher.autoencoder.encode(pictures)
    torch.testing.assert_close(encoded, standardized(vae.encode(pictures).latent_dist.mean))
    rgb, _ = edm2_file(tmp_path / "rgb.pkl", channels=3)
    with pytest.raises(InputError, match=r"autoencoder: .*rgb\.pkl draws pictures"):
        edm2_teacher(rgb, autoencoder=folder)
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        edm2_teacher(path, autoencoder=str(tmp_path))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path, _ = edm2_file(tmp_path / "a.pkl", clip_act=100)
    with pytest.raises(InputError, match=r"a\.pkl: clip_act: expected 256, found 100"):
        edm2_teacher(path)
    path, _ = edm2_file(tmp_path / "a.pkl")
    other, _ = edm2_file(tmp_path / "b.pkl", channels=3)
    with pytest.raises(InputError, match=r"b\.pkl: expected a guide for samples of \(4, 16, 16\)"):
        edm2_teacher(path, other)
    with pytest.raises(InputError, match=r"guidance_scale: 1\.4 needs a guide"):
        edm2_teacher(path, guidance_scale=1.4)
    with pytest.raises(InputError, match="expected a network of Precond, found Other"):
        edm2_teacher(write(path, {"ema": Stored("Other", {})}))
