"""Folders of latent pipelines: found, checked, and their models read from safetensors alone."""

import re
from pathlib import Path
from typing import Any

import diffusers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.storage.hub import hub_or_cache
from kdlight.storage.pretrained import whole

KINDS = {
    "unet": ("UNet2DConditionModel",),
    "transformer": (
        "DiTTransformer2DModel",
        "PixArtTransformer2DModel",
        "SanaTransformer2DModel",
        "SD3Transformer2DModel",
        "FluxTransformer2DModel",
        "QwenImageTransformer2DModel",
    ),
    "vae": ("AutoencoderKL", "AutoencoderDC", "AutoencoderKLQwenImage"),
}
"""What the parts of a pipeline may be."""
_LIBRARIES = ("diffusers", "transformers")
IGNORED = ["*.bin", "*.ckpt", "*.msgpack", "*.onnx*", "*.fp16.*", "*non_ema*"]
"""Other forms of the same weights."""


def open_pipeline(path_or_id: str) -> Path:
    """The folder of a latent pipeline, fetched from the hub if it is no folder.

    Raises:
        InputError: There is no such folder or repository, or it holds another kind of pipeline.
    """
    root = Path(path_or_id)
    if not root.is_dir():
        texts = [f"{part}{n}/*" for part in ("text_encoder", "tokenizer") for n in ("", "_2", "_3")]
        folders = ["unet/*", "transformer/*", "vae/*", "scheduler/*", *texts]
        root = download(path_or_id, ["model_index.json", *folders])
    parts = parts_of(root)
    network = network_part(root)
    for part in (network, "vae"):
        if parts.get(part) not in KINDS[part]:
            raise InputError(
                f"{root}: expected a latent pipeline whose {part} is a "
                f"{' or '.join(KINDS[part])}, found {parts.get(part)}."
            )
    return root


def parts_of(root: Path) -> dict[str, str]:
    """Classes of a pipeline's parts by their names, and ``pipeline``, its own.

    Raises:
        InputError: There is no index, or a part is of another library than those that are known.
    """
    index = read_json(root / "model_index.json")
    if not isinstance(index, dict):
        raise InputError(f"{root / 'model_index.json'}: expected a JSON object.")
    found = {"pipeline": str(index.get("_class_name"))}
    for name, value in index.items():
        if not (isinstance(value, list) and len(value) == 2 and value[1] is not None):
            continue
        library, kind = value
        # Only the safety checker, which is never read, is of the pipeline's own module.
        if library not in _LIBRARIES and name != "safety_checker":
            raise InputError(
                f"{root}: {name}: expected a part of {' or '.join(_LIBRARIES)}, found {library}."
            )
        found[name] = str(kind)
    return found


def network_part(root: Path) -> str:
    """Name of the part that denoises."""
    return "transformer" if "transformer" in parts_of(root) else "unet"


def download(repository: str, files: list[str]) -> Path:
    """Files of a repository on the hub, without those of other programs and precisions.

    Raises:
        InputError: There is no such repository.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise InputError(f"{repository}: no such folder.")
    try:
        with hub_or_cache(repository):
            found = snapshot_download(
                repository,
                allow_patterns=files,
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
            f"{repository}: no such folder, and no repository of that name could be fetched "
            "from the Hugging Face hub."
        ) from None
    return Path(found)


def load_part(root: Path, part: str) -> Any:
    """A model of diffusers in a pipeline's folder, frozen, from safetensors only.

    Raises:
        InputError: There are no safetensors, or they are damaged or do not fit.
    """
    return load_model(root / part, parts_of(root)[part])


def load_model(folder: Path, name: str) -> Any:
    """A model of diffusers in a folder of its own, frozen, from safetensors only.

    Args:
        folder: The folder.
        name: Its class.

    Raises:
        InputError: There are no safetensors, or they are damaged or do not fit.
    """
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no safetensors weights; pickled weights are not read.")
    model = whole(
        getattr(diffusers, name),
        folder,
        f"the {name} that config.json describes",
        use_safetensors=True,
        local_files_only=True,
    )
    return model.requires_grad_(False).eval()
