"""Latent diffusion models of diffusers, Stable Diffusion and its kin: teacher and surroundings.

A pipeline folder has a U-Net, a scheduler, an autoencoder, and a text encoder with its tokenizer.
The U-Net becomes a denoiser of latents; the others stay as they are and are read again from the
folder wherever a model of theirs is rebuilt, so no checkpoint holds them.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import Autoencoder, GuidanceDenoiser, LatentGenerator, PromptTable
from kdlight.diffusion.samplers import Algorithm
from kdlight.diffusion.sigmas import TrailingGrid
from kdlight.errors import InputError
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.storage.files import load_weights, read_json, sha256_of
from kdlight.teachers.folder import VP_SCHEDULERS, Folder, read_scheduler

PARTS = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
}
# What diffusers and transformers raise for files that are missing, cut short or do not fit.
_DAMAGE = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError)


def open_pipeline(path_or_id: str) -> Path:
    """The folder of a latent text-to-image pipeline, fetched from the hub if it is no folder.

    Raises:
        InputError: There is no such folder or repository, or it holds another kind of pipeline.
    """
    root = Path(path_or_id)
    if not root.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", path_or_id):
            raise InputError(f"{path_or_id}: no such folder.")
        folders = [f"{part}/*" for part in (*PARTS, "scheduler")]
        try:
            found = snapshot_download(
                path_or_id,
                allow_patterns=["model_index.json", *folders],
                ignore_patterns=[
                    "*.bin",
                    "*.ckpt",
                    "*.msgpack",
                    "*.onnx*",
                    "*.fp16.*",
                    "*non_ema*",
                ],
            )
        except (OSError, ValueError, HfHubHTTPError):
            raise InputError(
                f"{path_or_id}: no such folder, and no repository of that name could be fetched "
                "from the Hugging Face hub."
            ) from None
        root = Path(found)
    index = read_json(root / "model_index.json")
    kinds = {
        name: value[1]
        for name, value in (index if isinstance(index, dict) else {}).items()
        if isinstance(value, list) and len(value) == 2
    }
    for part, kind in PARTS.items():
        if kinds.get(part) != kind:
            raise InputError(
                f"{root}: expected a latent text-to-image pipeline whose {part} is a {kind}, "
                f"found {kinds.get(part)}."
            )
    return root


def _load(kind: Any, folder: Path) -> Any:
    """A model of diffusers or transformers, frozen, from safetensors only."""
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no safetensors weights; pickled weights are not read.")
    try:
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except _DAMAGE:
        raise InputError(f"{folder}: the weights are damaged or do not fit config.json.") from None
    missing = set(report["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: weights do not fit config.json: {len(missing)} missing, such as "
            f"{min(missing)}."
        )
    return model.requires_grad_(False).eval()


class TextEncoder:
    """A pipeline's tokenizer and text encoder, for as long as captions are embedded.

    Args:
        path_or_id: See :func:`open_pipeline`.
    """

    def __init__(self, path_or_id: str) -> None:
        root = open_pipeline(path_or_id)
        try:
            self.tokenizer = CLIPTokenizer.from_pretrained(root / "tokenizer")
        except _DAMAGE:
            raise InputError(f"{root / 'tokenizer'}: not the files of a CLIPTokenizer.") from None
        self.encoder = _load(CLIPTextModel, root / "text_encoder")

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (N, L, D), float32, as the pipeline itself computes them."""
        tokens = self.tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        device = next(self.encoder.parameters()).device
        embedded: Tensor = self.encoder(tokens.input_ids.to(device))[0]
        return embedded.float().cpu()


class Prompts(PromptTable):
    """Prompts embedded by the text encoder of a pipeline.

    Args:
        path_or_id: See :func:`open_pipeline`.
        prompts: The prompts.
    """

    def __init__(self, path_or_id: str, prompts: list[str]) -> None:
        super().__init__()
        if not prompts:
            raise InputError("prompts: expected at least one, found none.")
        encode = TextEncoder(path_or_id)
        table = torch.cat([encode([prompt]) for prompt in prompts])
        self.register_buffer("text", table, persistent=False)


class DiffusersAutoencoder(Autoencoder):
    """The ``AutoencoderKL`` of a pipeline.

    Args:
        path_or_id: See :func:`open_pipeline`.
        batch_size: Pictures at once; an autoencoder needs far more memory than the U-Net beside
            it.
    """

    def __init__(self, path_or_id: str, batch_size: int = 8) -> None:
        super().__init__()
        self.path_or_id = path_or_id
        self.batch_size = batch_size
        self.vae = _load(AutoencoderKL, open_pipeline(path_or_id) / "vae")
        self.scale = float(self.vae.config["scaling_factor"])

    def encode(self, image: Tensor) -> Tensor:
        """The mean of the posterior, scaled.

        Training of latent models draws from the posterior; that of Stable Diffusion is so narrow
        that the mean stands for it, and gives the same latents every time.
        """
        parts = torch.split(image.to(next(self.vae.parameters()).dtype), self.batch_size)
        means = [self.vae.encode(part).latent_dist.mean for part in parts]
        return (torch.cat(means) * self.scale).to(image.dtype)

    def decode(self, latent: Tensor) -> Tensor:
        scaled = (latent / self.scale).to(next(self.vae.parameters()).dtype)
        parts = torch.split(scaled, self.batch_size)
        pictures = [self.vae.decode(part, return_dict=False)[0] for part in parts]
        return torch.cat(pictures).to(latent.dtype)


def latent_shape(path_or_id: str, size: int) -> tuple[int, int, int]:
    """Shape of the latents of square pictures, told by the autoencoder's configuration alone.

    Args:
        path_or_id: See :func:`open_pipeline`.
        size: Side of the pictures, pixels.

    Raises:
        InputError: There is no such pipeline, or its autoencoder takes no such pictures.
    """
    file = open_pipeline(path_or_id) / "vae" / "config.json"
    config = read_json(file)
    try:
        channels, factor = config["latent_channels"], 2 ** (len(config["block_out_channels"]) - 1)
    except (KeyError, TypeError):
        raise InputError(f"{file}: not the configuration of an AutoencoderKL.") from None
    if size < 1 or size % factor:
        raise InputError(f"size: expected a multiple of {factor} for {file}, found {size}.")
    return channels, size // factor, size // factor


def latent_teacher(
    path_or_id: str,
    prompts: list[str] | None = None,
    steps: int = 50,
    algorithm: Algorithm = "euler",
    guidance_scale: float = 7.5,
) -> LatentGenerator:
    """A latent text-to-image model of diffusers: ``StableDiffusionPipeline`` and its like.

    Args:
        path_or_id: A pipeline folder, or an id on the Hugging Face hub. Only safetensors weights
            are read.
        prompts: What is drawn when samples are evaluated, one prompt after the other; null for
            the empty prompt.
        steps: Default number of sampling steps.
        algorithm: Sampler.
        guidance_scale: Guidance of the teacher's own samples; 1 is none.

    Raises:
        InputError: The folder is missing or damaged, or the model is of another kind.
    """
    root = open_pipeline(path_or_id)
    scheduler_file = root / "scheduler" / "scheduler_config.json"
    scheduler = read_scheduler(Folder(root / "unet", scheduler_file))
    kind = scheduler.config["_class_name"]
    if kind not in VP_SCHEDULERS:
        raise InputError(
            f"{scheduler_file}: expected a variance-preserving scheduler, found {kind}."
        )
    table = Prompts(path_or_id, prompts or [""])
    null_text = table.text[0] if prompts is None else Prompts(path_or_id, [""]).text[0]
    network, digest = read_unet_condition(root / "unet", null_text)
    schedule = scheduler.alphas_cumprod.double().tolist()
    denoiser = VPDenoiser(network, schedule, str(scheduler.config["prediction_type"]))
    denoiser.provenance = {"source": path_or_id, "sha256": digest}
    guided = GuidanceDenoiser(denoiser, guidance_scale)
    return LatentGenerator(
        guided,
        TrailingGrid(schedule),
        network.shape,
        DiffusersAutoencoder(path_or_id),
        table,
        algorithm,
        (steps,),
    ).eval()


def latent_space(generator: Generator) -> Generator:
    """The same generator without the decoder: noise and samples are latents."""
    return Generator(
        generator.denoiser,
        generator.grid,
        generator.shape,
        generator.algorithm,
        generator.steps,
        generator.any_steps,
    )


def read_unet_condition(folder: Path, null_text: Tensor) -> tuple[UNet2DCondition, str]:
    """The network behind kdlight's adapter, and the SHA-256 of its weights.

    Args:
        folder: Where it is.
        null_text: Embedding of the empty prompt, (L, D).

    Raises:
        InputError: Damaged files, or a network that wants more than text.
    """
    model = _load(UNet2DConditionModel, folder)
    config = dict(model.config)
    for name in ("addition_embed_type", "class_embed_type", "encoder_hid_dim"):
        if config[name] is not None:
            raise InputError(
                f"{folder}: {name}: expected a network that is told the text alone, "
                f"found {config[name]}."
            )
    if config["out_channels"] != config["in_channels"] or config["sample_size"] is None:
        raise InputError(
            f"{folder}: expected as many output as input channels and a sample_size, found "
            f"{config['out_channels']}, {config['in_channels']} and {config['sample_size']}."
        )
    if config["cross_attention_dim"] != null_text.shape[1]:
        raise InputError(
            f"{folder}: cross_attention_dim: expected {null_text.shape[1]} as the text encoder "
            f"has, found {config['cross_attention_dim']}."
        )
    network = UNet2DCondition(
        size=config["sample_size"],
        channels=config["in_channels"],
        text_shape=tuple(null_text.shape),
        guidance_dim=config["time_cond_proj_dim"] or 0,
        # A copy told the guidance changes this, and nothing in the options may override it.
        options={
            name: value
            for name, value in config.items()
            if not name.startswith("_") and name != "time_cond_proj_dim"
        },
    )
    load_weights(network, {"null_text": null_text} | _under("model", model), str(folder))
    digests = [sha256_of(file) for file in sorted(folder.glob("*.safetensors"))]
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    return network.eval(), digests[0] if len(digests) == 1 else joined


def _under(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
