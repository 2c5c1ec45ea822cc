"""A pipeline's network behind kdlight's adapter, and in the coordinates of its scheduler."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.diffusion.sigmas import FlowGrid, Grid, TrailingGrid
from kdlight.diffusion.stretched_grid import StretchedGrid
from kdlight.errors import InputError
from kdlight.networks.images.transformers import TRANSFORMERS, PipelineTransformer
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.networks.lora import DiffusersNetwork
from kdlight.storage.files import load_weights, read_json
from kdlight.storage.pretrained import one_sentence
from kdlight.teachers.folder import FLOW_SCHEDULERS, VP_SCHEDULERS, Folder, read_scheduler
from kdlight.teachers.pipelines.autoencoder import downscaling
from kdlight.teachers.pipelines.folder import load_part, network_part, parts_of

LATENT_SIGMA_DATA = 1.0
"""Standard deviation of scaled latents, about."""
PURE_NOISE = 2.0**25
"""Noise level whose flow time is 1 in float32: pipelines show their networks time 1 itself, and
the fastest wave of its embedding tells 0.9999 from it."""
EMBEDDED_GUIDANCE = 3.5
"""What a network that is told the guidance is told where nothing is asked for, as Flux's."""


def read_network(root: Path, null: Condition, size: int | None) -> DiffusersNetwork:
    """The network of a pipeline's folder.

    Args:
        root: The folder.
        null: What is told of no prompt, each without the batch.
        size: Side of the pictures, pixels; None for what the network was trained for.

    Raises:
        InputError: Damaged files, or a network that wants something else.
    """
    part = network_part(root)
    model = load_part(root, part)
    channels, factor = downscaling(str(root))
    side = size // factor if size else model.config.get("sample_size")
    if side is None:
        raise InputError(f"size: expected a number of pixels: {root / part} does not say any.")
    shape = (channels, side, side)
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    with one_sentence(root / part, "the network that config.json describes"):
        made = (
            _unet(root / part, shape, config, null, factor * side)
            if part == "unet"
            else _transformer(root / part, parts_of(root)[part], shape, config, null)
        )
        weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        kept = {name: tensor for name, tensor in made.named_buffers() if "." not in name}
        load_weights(made, kept | _buffers(null, made) | weights, str(root / part))
        if isinstance(made, UNet2DCondition):
            _try(made.eval())
    return made.eval()


@torch.no_grad()
def _try(network: UNet2DCondition) -> None:
    """Run it on as few numbers as it can take: some settings fail in use alone."""
    edge = 2 ** len(network.model.config.block_out_channels)
    latents = torch.zeros(1, network.shape[0], edge, edge)
    network(latents, torch.ones(1), {"guidance": torch.ones(1)} if network.guidance_dim else None)


def _buffers(null: Condition, network: nn.Module) -> dict[str, Tensor]:
    """What is told of no prompt, by the buffers of a network that is told it."""
    known = dict(network.named_buffers())
    return {f"null_{name}": rows for name, rows in null.items() if f"null_{name}" in known}


def _unet(
    folder: Path,
    shape: tuple[int, int, int],
    config: Mapping[str, Any],
    null: Condition,
    pixels: int,
) -> UNet2DCondition:
    for name in ("class_embed_type", "encoder_hid_dim"):
        if config[name] is not None:
            raise InputError(
                f"{folder}: {name}: expected a network that is told text and sizes alone, "
                f"found {config[name]}."
            )
    if config["addition_embed_type"] not in (None, "text_time"):
        raise InputError(
            f"{folder}: addition_embed_type: expected none, or text_time as Stable Diffusion XL "
            f"has, found {config['addition_embed_type']}."
        )
    if config["in_channels"] != shape[0] or config["out_channels"] != shape[0]:
        raise InputError(
            f"{folder}: expected as many input and output channels as the latents have, "
            f"{shape[0]}, found {config['in_channels']} and {config['out_channels']}."
        )
    text = null["text"]
    if config["cross_attention_dim"] != text.shape[1]:
        raise InputError(
            f"{folder}: cross_attention_dim: expected {text.shape[1]} as the text encoder "
            f"has, found {config['cross_attention_dim']}."
        )
    # A copy told the guidance changes this, and nothing in the options may override it.
    options = {name: value for name, value in config.items() if name != "time_cond_proj_dim"}
    added = config["addition_embed_type"] is not None
    made = UNet2DCondition(
        size=shape[1:],
        channels=shape[0],
        text_shape=tuple(text.shape),
        guidance_dim=config["time_cond_proj_dim"] or 0,
        options=options,
        pooled_dim=len(null["pooled"]) if added else 0,
    )
    if made.whole is not None:
        made.whole.copy_(torch.tensor([pixels, pixels, 0, 0, pixels, pixels]))
    return made


def _transformer(
    folder: Path, kind: str, shape: tuple[int, int, int], config: dict[str, Any], null: Condition
) -> PipelineTransformer:
    if config.get("use_additional_conditions"):
        raise InputError(
            f"{folder}: use_additional_conditions: expected false, found true: a network that is "
            "told resolution and aspect ratio is not adapted yet."
        )
    shapes: dict[str, list[int]] = {name: list(rows.shape) for name, rows in null.items()}
    if config.get("guidance_embeds"):
        shapes["guidance"] = []
    made = TRANSFORMERS[kind](shape, config, shapes)
    if "guidance" in shapes:
        made.get_buffer("null_guidance").fill_(EMBEDDED_GUIDANCE)
    return made


def in_coordinates(root: Path, network: DiffusersNetwork) -> tuple[Denoiser, Grid]:
    """The network as a denoiser by its pipeline's scheduler, and the levels of its walks.

    Raises:
        InputError: A scheduler that is neither variance-preserving nor of flow matching.
    """
    file = root / "scheduler" / "scheduler_config.json"
    known = read_json(file, infinite=True)
    if isinstance(known, dict) and known.get("prediction_type") == "flow_prediction":
        # A solver of variance-preserving models that walks flows as well, as Sana's does.
        flow = FlowDenoiser(network, 1000.0, sigma_data=LATENT_SIGMA_DATA)
        return flow, FlowGrid(float(known.get("flow_shift", 1.0)), sigma_max=PURE_NOISE)
    scheduler = read_scheduler(Folder(root / network_part(root), file), dynamic=True)
    settings = scheduler.config
    kind = settings["_class_name"]
    if kind in FLOW_SCHEDULERS:
        scale = float(settings["num_train_timesteps"])
        if isinstance(network, PipelineTransformer):
            scale /= network.number_scale
        flow = FlowDenoiser(network, scale, sigma_data=LATENT_SIGMA_DATA)
        shifts = settings["use_dynamic_shifting"]
        shift = dynamic_shift(settings, network) if shifts else float(settings["shift"])
        grid = FlowGrid(shift, None if shifts else float(scheduler.sigma_min), PURE_NOISE)
        terminal = settings.get("shift_terminal")
        return flow, StretchedGrid(grid, float(terminal)) if terminal else grid
    if kind not in VP_SCHEDULERS:
        raise InputError(
            f"{file}: expected a variance-preserving or flow-matching scheduler, found {kind}."
        )
    schedule = scheduler.alphas_cumprod.double().tolist()
    prediction = str(settings["prediction_type"])
    denoiser = VPDenoiser(network, schedule, prediction, LATENT_SIGMA_DATA)
    return denoiser, TrailingGrid(schedule)


def dynamic_shift(settings: Mapping[str, Any], network: DiffusersNetwork) -> float:
    """The shift of a scheduler that shifts more the more tokens there are (Flux's).

    A line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift) is the
    logarithm of the factor on sigma, or, with time_shift_type linear, the factor itself.
    """
    rows, columns = network.token_grid if isinstance(network, PipelineTransformer) else (1, 1)
    low, high = settings["base_image_seq_len"], settings["max_image_seq_len"]
    slope = (settings["max_shift"] - settings["base_shift"]) / (high - low)
    mu = torch.tensor(settings["base_shift"] + slope * (rows * columns - low), dtype=torch.float64)
    return float(mu if settings["time_shift_type"] == "linear" else mu.exp())
