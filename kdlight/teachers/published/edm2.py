"""EDM2's released models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlight.diffusion.autoguidance import AutoguidedDenoiser
from kdlight.diffusion.denoisers import Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentGenerator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.storage.files import sha256_of
from kdlight.storage.persistent import read_persistent, stored_module
from kdlight.teachers.published.arguments import build, expect, number, recorded
from kdlight.teachers.published.edm2_latents import RAW_MEAN, EDM2Autoencoder

UNET: dict[str, Any] = {
    "img_resolution": ...,
    "img_channels": ...,
    "label_dim": ...,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "channel_mult_noise": None,
    "channel_mult_emb": None,
    "num_blocks": 3,
    "attn_resolutions": [16, 8],
    "label_balance": 0.5,
    "concat_balance": 0.5,
    "resample_filter": [1, 1],
    "channels_per_head": 64,
    "dropout": 0,
    "res_balance": 0.3,
    "attn_balance": 0.3,
    "clip_act": 256,
}
FIXED = (
    "channel_mult_noise",
    "channel_mult_emb",
    "label_balance",
    "concat_balance",
    "resample_filter",
    "channels_per_head",
    "res_balance",
    "attn_balance",
    "clip_act",
)


def edm2_teacher(
    path: str | Path,
    guide: str | Path | None = None,
    guidance_scale: float = 1.0,
    steps: int = 32,
    autoencoder: str | None = None,
) -> Generator:
    """A ``.pkl`` released with EDM2 (Karras et al. 2024, arXiv:2312.02696).

    Nothing of the file is run (:mod:`kdlight.storage.persistent`). Its weights are of half
    precision and are taken to float32. A model of 512 x 512 images gives latents of mean 0 and
    standard deviation 0.5. The uncertainty that the file holds beside the network, which only its
    training loss used, is left out. The weights are for non-commercial use.

    Args:
        path: The file.
        guide: A second file that guides the first: a smaller or less trained one, with the same
            classes or with none.
        guidance_scale: How far to go from the guide; 1 is no guidance.
        steps: Default number of Heun steps.
        autoencoder: Folder or hub id of what turns the latents of a model of 512 x 512 images into
            pictures, ``stabilityai/sd-vae-ft-mse``; null leaves samples as latents.

    Raises:
        InputError: A file is missing or damaged, would run code, or holds another network, or the
            two do not fit together.
    """
    denoiser, shape = _read(Path(path))
    if guide is not None:
        lesser, other = _read(Path(guide))
        if other != shape:
            raise InputError(f"{guide}: expected a guide for samples of {shape}, found {other}.")
        denoiser = AutoguidedDenoiser(denoiser, lesser, guidance_scale)
    elif guidance_scale != 1.0:
        raise InputError(f"guidance_scale: {guidance_scale:g} needs a guide, found none.")
    if autoencoder is None:
        return Generator(denoiser, KarrasGrid(), shape, "heun", (steps,)).eval()
    decoding = EDM2Autoencoder(autoencoder)
    if shape[0] != len(RAW_MEAN):
        raise InputError(f"autoencoder: {path} draws pictures, of shape {shape}, expected null.")
    made = LatentGenerator(denoiser, KarrasGrid(), shape, decoding, None, "heun", (steps,))
    return made.eval()


def _read(path: Path) -> tuple[Denoiser, tuple[int, ...]]:
    content = read_persistent(path)
    try:
        stored = content.get("ema") if isinstance(content, Mapping) else content
        denoiser, shape = _rebuilt(stored)
    except InputError as error:
        raise InputError(f"{path}: {error}".rstrip(".") + ".") from None
    denoiser.provenance = {"source": str(path), "sha256": sha256_of(path)}
    return denoiser, shape


def _rebuilt(stored: Any) -> tuple[Denoiser, tuple[int, ...]]:
    outer = stored_module(stored)
    if outer.class_name != "Precond":
        raise InputError(f"expected a network of Precond, found {outer.class_name}")
    inner = stored_module(outer.state.get("_modules", {}).get("unet"))
    if inner.class_name != "UNet":
        raise InputError(f"expected a UNet, found a {inner.class_name}")
    given = recorded(inner, UNET)
    for name in FIXED:
        expect(given, name, UNET[name])
    settings = {
        "size": given["img_resolution"],
        "channels": given["img_channels"],
        "num_classes": given["label_dim"],
        "attention": given["attn_resolutions"],
    }
    same = ("model_channels", "channel_mult", "num_blocks", "dropout")
    settings |= {name: given[name] for name in same}
    network = build(EDM2UNet, settings, inner.tensors())
    return EDMDenoiser(network, number(outer, "sigma_data")), network.shape
