"""Files in the layout of EDM's, with kdlight's networks and random weights in them."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from kdlight.networks.images.edm.song import SongUNet
from tests.networks.edm.recipe import filled
from tests.storage.persistence import EasyDict, Stored, preconditioned, stored, write

EDM = {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5}
TAPS = (1, 3, 3, 1)


def song_file(path: Path, **changes: Any) -> tuple[Path, SongUNet]:
    """A small conditional DDPM++ in ``EDMPrecond``."""
    network = filled(
        SongUNet(16, 3, 10, 9, model_channels=32, channel_mult=(1, 2), num_blocks=1, attention=(8,))
    )
    return write_network(path, network, changes), network


def ncsnpp_file(
    path: Path, outer: str, stored_taps: tuple[int, ...] = TAPS, **attributes: float
) -> tuple[Path, SongUNet]:
    """A small unconditional NCSN++ in any preconditioner."""
    network = filled(
        SongUNet(
            8,
            1,
            model_channels=16,
            channel_mult=(1, 2),
            num_blocks=1,
            attention=(),
            embedding="fourier",
            noise_width=2,
            encoder="residual",
            taps=TAPS,
        )
    )
    changes = {
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "encoder_type": "residual",
        "resample_filter": list(TAPS),
        "attn_resolutions": [],
        "model_channels": 16,
    }
    return write_network(path, network, changes, outer, attributes, stored_taps), network


def adm_file(
    path: Path, outer: str, buffers: dict[str, Any] | None = None, **attributes: float
) -> tuple[Path, DhariwalUNet]:
    """A small conditional ADM with a learned variance in any preconditioner."""
    network = filled(
        DhariwalUNet(
            16,
            3,
            10,
            model_channels=64,
            channel_mult=(1, 2),
            num_blocks=1,
            attention=(8,),
            learned_variance=True,
        )
    )
    changes = {"out_channels": 6, "model_channels": 64}
    kept = {**attributes, "_buffers": OrderedDict(buffers or {})}
    return write_network(path, network, changes, outer, kept), network


def write_network(
    path: Path,
    network: SongUNet | DhariwalUNet,
    changes: dict[str, Any],
    outer: str = "EDMPrecond",
    attributes: dict[str, Any] = EDM,
    taps: tuple[int, ...] = (1, 1),
) -> Path:
    channels, size, _ = network.shape
    arguments = {
        "img_resolution": size,
        "in_channels": channels,
        "out_channels": channels,
        "label_dim": network.num_classes,
        "augment_dim": network.augment_dim,
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [8],
        **changes,
    }
    inner = stored(network, type(network).__name__, arguments, taps)
    content = {
        "ema": preconditioned(inner, outer, **attributes),
        "loss_fn": Stored("EDMLoss", {"P_mean": -1.2}),
        "augment_pipe": None,
        "dataset_kwargs": EasyDict(path="data.zip"),
    }
    return write(path, content)
