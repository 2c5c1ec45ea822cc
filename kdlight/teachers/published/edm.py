"""EDM's released models: DDPM++, NCSN++ and ADM in EDM's own preconditioning, and its baselines."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.diffusion.baselines import ContinuousVPDenoiser, VEDenoiser
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.schedules import alpha_bar_from_sigma
from kdlight.diffusion.sigmas import Grid, KarrasGrid, RoundedGrid
from kdlight.errors import InputError
from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from kdlight.networks.images.edm.song import SongUNet
from kdlight.storage.files import sha256_of
from kdlight.storage.legacy_tensors import StoredTensor
from kdlight.storage.persistent import StoredModule, read_persistent, stored_module
from kdlight.teachers.published.arguments import build, expect, number, recorded

SONG: dict[str, Any] = {
    "img_resolution": ...,
    "in_channels": ...,
    "out_channels": ...,
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "channel_mult_emb": 4,
    "num_blocks": 4,
    "attn_resolutions": [16],
    "dropout": 0.10,
    "label_dropout": 0,
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}


ADM: dict[str, Any] = {
    "img_resolution": ...,
    "in_channels": ...,
    "out_channels": ...,
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "channel_mult_emb": 4,
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
    "dropout": 0.10,
    "label_dropout": 0,
}


def edm_teacher(path: str | Path, steps: int | None = None) -> Generator:
    """A ``.pkl`` released with EDM (Karras et al. 2022, arXiv:2206.00364), or of the same layout.

    Nothing of the file is run (:mod:`kdlight.storage.persistent`). The average of the weights is
    taken. The weights that NVlabs released are for non-commercial use.

    Args:
        path: The file.
        steps: Default number of Heun steps; None takes the paper's 18 for images of up to 32
            pixels and 40 for larger ones.

    Raises:
        InputError: The file is missing or damaged, would run code, or holds another network.
    """
    path = Path(path)
    content = read_persistent(path)
    try:
        stored = content.get("ema") if isinstance(content, Mapping) else content
        denoiser, shape = _denoiser(stored)
    except InputError as error:
        raise InputError(f"{path}: {error}".rstrip(".") + ".") from None
    denoiser.provenance = {"source": str(path), "sha256": sha256_of(path)}
    grid: Grid = KarrasGrid(max(0.002, denoiser.sigma_min), min(80.0, denoiser.sigma_max))
    if isinstance(denoiser, VPDenoiser):
        grid = RoundedGrid(grid, denoiser.alphas_cumprod.tolist())
    steps = (18 if max(shape[1:]) <= 32 else 40) if steps is None else steps
    return Generator(denoiser, grid, shape, "heun", (steps,)).eval()


def _denoiser(stored: Any) -> tuple[Denoiser, tuple[int, ...]]:
    outer = stored_module(stored)
    if outer.class_name not in PRECONDITIONERS:
        raise InputError(
            f"expected a network of {', '.join(PRECONDITIONERS)}, found {outer.class_name}"
        )
    inner = stored_module(outer.state.get("_modules", {}).get("model"))
    if inner.class_name not in NETWORKS:
        raise InputError(f"expected a {' or '.join(NETWORKS)}, found a {inner.class_name}")
    network = NETWORKS[inner.class_name](inner)
    return PRECONDITIONERS[outer.class_name](outer, network), network.shape


def _song(module: StoredModule) -> SongUNet:
    given = recorded(module, SONG)
    expect(given, "decoder_type", "standard")
    settings = {
        **_shared(given),
        "embedding": given["embedding_type"],
        "noise_width": given["channel_mult_noise"],
        "encoder": given["encoder_type"],
        "taps": given["resample_filter"],
    }
    return build(SongUNet, settings, _weights(module, given["resample_filter"]))


def _adm(module: StoredModule) -> DhariwalUNet:
    return build(DhariwalUNet, _shared(recorded(module, ADM)), _weights(module, [1, 1]))


def _shared(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that both networks have, under kdlight's names."""
    expect(given, "channel_mult_emb", 4)
    expect(given, "out_channels", given["in_channels"], 2 * given["in_channels"])
    names = {
        "size": "img_resolution",
        "channels": "in_channels",
        "num_classes": "label_dim",
        "attention": "attn_resolutions",
    }
    same = ("augment_dim", "model_channels", "channel_mult", "num_blocks", "dropout")
    return {
        **{ours: given[theirs] for ours, theirs in names.items()},
        **{name: given[name] for name in same},
        "null_class": given["label_dropout"] > 0,
        "learned_variance": given["out_channels"] != given["in_channels"],
    }


def _weights(module: StoredModule, taps: Any) -> dict[str, Tensor]:
    """The tensors of a network; the filters among them, which its settings give too, checked."""
    tensors = module.tensors()
    filters = [name for name in tensors if name.endswith("resample_filter")]
    line = torch.tensor(taps, dtype=torch.float32)
    expected = torch.outer(line, line) / line.sum() ** 2
    for name in filters:
        found = tensors.pop(name).float()
        if found.numel() != expected.numel() or not torch.allclose(
            found.reshape(expected.shape), expected, atol=1e-6
        ):
            raise InputError(f"{name}: expected the filter {taps}, found another one")
    return tensors


def _edm(module: StoredModule, network: nn.Module) -> Denoiser:
    low, high = max(number(module, "sigma_min"), 0.002), min(number(module, "sigma_max"), 80.0)
    return EDMDenoiser(network, number(module, "sigma_data"), low, high)


def _ve(module: StoredModule, network: nn.Module) -> Denoiser:
    return VEDenoiser(network, number(module, "sigma_min"), number(module, "sigma_max"))


def _vp(module: StoredModule, network: nn.Module) -> Denoiser:
    beta_d, beta_min = number(module, "beta_d"), number(module, "beta_min")
    scale = number(module, "M") - 1
    return ContinuousVPDenoiser(network, beta_d, beta_min, scale, number(module, "epsilon_t"))


def _iddpm(module: StoredModule, network: nn.Module) -> Denoiser:
    table = module.state.get("_buffers", {}).get("u")
    if not isinstance(table, StoredTensor):
        raise InputError("iDDPMPrecond: expected the noise levels u, found none")
    # From the largest down to 0, which is no level of the network's.
    sigmas = table.tensor().double()[:-1].flip(0)
    return VPDenoiser(network, alpha_bar_from_sigma(sigmas).tolist())


NETWORKS: dict[str, Callable[[StoredModule], SongUNet | DhariwalUNet]] = {
    "SongUNet": _song,
    "DhariwalUNet": _adm,
}
PRECONDITIONERS: dict[str, Callable[[StoredModule, nn.Module], Denoiser]] = {
    "EDMPrecond": _edm,
    "VEPrecond": _ve,
    "VPPrecond": _vp,
    "iDDPMPrecond": _iddpm,
}
