"""Folders of diffusers, checked part by part, so that a wrong one is named in one sentence."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import UNet2DModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from kdlight.diffusion.coordinates import PREDICTIONS
from kdlight.errors import InputError
from kdlight.networks.images.unet import UNet2D
from kdlight.storage.files import load_weights, read_json, sha256_of_all
from kdlight.storage.hub import hub_or_cache
from kdlight.storage.pretrained import one_sentence, whole

EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
CONSISTENCY_SCHEDULERS = ("CMStochasticIterativeScheduler",)
FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
VP_SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverMultistepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)


@dataclass(frozen=True)
class Folder:
    """Where the two parts of a model are.

    Attributes:
        unet: Folder of the network: ``config.json`` and safetensors weights.
        scheduler: The scheduler's configuration file.
    """

    unet: Path
    scheduler: Path


def open_folder(path_or_id: str) -> Folder:
    """Find network and scheduler in a pipeline folder, a model folder or a hub repository.

    Raises:
        InputError: There is no such folder or repository, or it holds something else.
    """
    root = Path(path_or_id)
    if not root.is_dir():
        root = _download(path_or_id)
    index = root / "model_index.json"
    if index.is_file():
        _check_pipeline(root, _read_object(index))
    # Older repositories keep all files of a pipeline at the root.
    unet = next((part for part in (root / "unet", root) if (part / "config.json").is_file()), None)
    if unet is None:
        raise InputError(f"{path_or_id}: expected a folder of diffusers, found no config.json.")
    places = (root / "scheduler", unet, unet.parent / "scheduler")
    files = [place / "scheduler_config.json" for place in places]
    scheduler = next((file for file in files if file.is_file()), None)
    if scheduler is None:
        raise InputError(f"{path_or_id}: found no scheduler_config.json in or beside the model.")
    return Folder(unet, scheduler)


def _download(repository: str) -> Path:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise InputError(f"{repository}: no such folder.")
    try:
        with hub_or_cache(repository):
            return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError, HfHubHTTPError):
        raise InputError(
            f"{repository}: no such folder, and no repository of that name could be fetched "
            "from the Hugging Face hub."
        ) from None


def _read_object(path: Path, infinite: bool = False) -> dict[str, Any]:
    value = read_json(path, infinite)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object.")
    return value


def _check_pipeline(root: Path, index: dict[str, Any]) -> None:
    parts = {
        name: value[1]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    }
    others = sorted(set(parts) - {"unet", "scheduler"})
    if others:
        raise InputError(
            f"{root}: {index.get('_class_name')} also needs {', '.join(others)}; expected a "
            "pixel-space pipeline of a UNet2DModel and a scheduler alone."
        )
    if parts.get("unet") != "UNet2DModel":
        raise InputError(f"{root}: expected a UNet2DModel, found {parts.get('unet')}.")


def read_scheduler(folder: Folder, dynamic: bool = False) -> Any:
    """The scheduler, of a kind that has a counterpart here.

    Args:
        folder: Where it is.
        dynamic: Whether its shift may depend on the number of tokens.

    One that ends in pure noise (Lin et al. 2023, arXiv:2305.08891) gets a last alpha_bar that is
    finite, as diffusers' Euler scheduler does it.

    Raises:
        InputError: Another kind of scheduler or prediction, or a damaged file.
    """
    path = folder.scheduler
    config = _read_object(path, infinite=True)
    kind = config.get("_class_name")
    if kind not in VP_SCHEDULERS + EDM_SCHEDULERS + CONSISTENCY_SCHEDULERS + FLOW_SCHEDULERS:
        raise InputError(
            f"{path}: expected a DDPM, DDIM, EDM, consistency or flow-matching scheduler, "
            f"found {kind}."
        )
    with one_sentence(path, f"settings of a {kind}"):
        scheduler = getattr(diffusers, kind).from_config(config)
        if kind in VP_SCHEDULERS:
            _check_prediction(scheduler, PREDICTIONS, path)
            _end_in_finite_noise(scheduler, path)
        elif kind in EDM_SCHEDULERS:
            _check_prediction(scheduler, ("epsilon",), path)
    if kind in FLOW_SCHEDULERS:
        known = ("use_dynamic_shifting", "shift_terminal") if dynamic else ()
        for name in ("use_dynamic_shifting", "invert_sigmas", "shift_terminal"):
            if scheduler.config.get(name) and name not in known:
                raise InputError(f"{path}: {name}: expected none, found {scheduler.config[name]}.")
    # from_config drops the name; callers tell the families apart by it.
    scheduler.register_to_config(_class_name=kind)
    return scheduler


def _check_prediction(scheduler: Any, allowed: tuple[str, ...], path: Path) -> None:
    found = scheduler.config["prediction_type"]
    if found not in allowed:
        raise InputError(
            f"{path}: prediction_type: expected {' or '.join(allowed)}, found {found}."
        )


def _end_in_finite_noise(scheduler: Any, path: Path) -> None:
    table = scheduler.alphas_cumprod
    if 0 < table[-1] < table[-2]:  # Euler's own end can lie above what comes before it
        return
    if scheduler.config["prediction_type"] == "epsilon":
        raise InputError(
            f"{path}: rescale_betas_zero_snr: expected prediction_type v_prediction or sample, "
            "found epsilon, which in pure noise says nothing of x0."
        )
    table[-1] = min(2.0**-24, float(table[-2]) / 4)


def _variant(folder: Path) -> str | None:
    """``fp16`` for a folder that has no weights of full precision."""
    halves = {file for file in folder.glob("*.safetensors") if ".fp16" in file.name}
    return "fp16" if halves and halves == set(folder.glob("*.safetensors")) else None


def read_unet(folder: Folder, null_class: bool, noise_scale: float = 1.0) -> tuple[UNet2D, str]:
    """The network behind kdlight's adapter, and the SHA-256 of its weights.

    Args:
        folder: Where it is.
        null_class: Whether its last class stands for "no class".
        noise_scale: Factor on the noise number before its embedding.

    Raises:
        InputError: Damaged files, pickled weights, or a network of another kind.
    """
    path = folder.unet
    config = _read_object(path / "config.json")
    if config.get("_class_name") != "UNet2DModel":
        raise InputError(f"{path}: expected a UNet2DModel, found {config.get('_class_name')}.")
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise InputError(f"{path}: no safetensors weights; pickled weights are not read.")
    # diffusers' own loader, because it renames the weights of older checkpoints.
    expected = "the UNet2DModel that config.json describes"
    model = whole(
        UNet2DModel,
        path,
        expected,
        exact=True,
        use_safetensors=True,
        local_files_only=True,
        variant=_variant(path),
    )
    with one_sentence(path, expected):
        network = _adapter(dict(model.config), null_class, noise_scale, path).eval()
        load_weights(network.model, model.state_dict(), str(path))
        _try(network)
    return network, sha256_of_all(files)


@torch.no_grad()
def _try(network: UNet2D) -> None:
    """Run it on as few pixels as it can take: some settings fail in use alone."""
    edge = 2 ** len(network.model.config.block_out_channels)
    labels = torch.zeros(1, dtype=torch.long) if network.num_classes else None
    network.model(torch.zeros(1, network.shape[0], edge, edge), 1.0, labels)


def _adapter(config: dict[str, Any], null_class: bool, noise_scale: float, path: Path) -> UNet2D:
    if config["sample_size"] is None:
        raise InputError(f"{path}: config.json: expected a sample_size.")
    channels, outputs = config["in_channels"], config["out_channels"]
    if outputs not in (channels, 2 * channels):
        raise InputError(
            f"{path}: out_channels: expected {channels} as in_channels, or {2 * channels} with a "
            f"learned variance, found {outputs}."
        )
    if config["class_embed_type"] is not None:
        raise InputError(
            f"{path}: class_embed_type: expected a table of classes, "
            f"found {config['class_embed_type']}."
        )
    classes = config["num_class_embeds"] or 0
    named = ("block_out_channels", "layers_per_block", "dropout")
    own = {*named, "sample_size", "in_channels", "num_class_embeds"}
    known = set(inspect.signature(UNet2DModel.__init__).parameters) - {"self"} - own
    return UNet2D(
        size=config["sample_size"],
        channels=channels,
        num_classes=classes - null_class if classes else 0,
        null_class=null_class,
        noise_scale=noise_scale,
        options={name: value for name, value in config.items() if name in known},
        **{name: config[name] for name in named},
    )
