"""Classifiers that have been trained, each by a function that a YAML file can name."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.networks.images.foreign_classifiers import (
    MEAN,
    SPREAD,
    LibraryClassifier,
    TimmClassifier,
    TorchvisionClassifier,
    TransformersClassifier,
)
from kdlight.storage.files import is_there, load_tensors, load_weights, read_json, sha256_of
from kdlight.storage.hub import hub_or_cache
from kdlight.storage.pretrained import one_sentence, whole
from kdlight.teachers.checkpoint import models_of

Made = TypeVar("Made", bound=LibraryClassifier)
ASSETS = Path(__file__).parent.parent / "assets"


def run_classifier(checkpoint: str, model: str | None = None) -> Classifier:
    """A classifier that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.
        model: Which of its models; None takes the student, or else the first classifier.

    Raises:
        InputError: The file is missing or damaged, or holds no such classifier.
    """
    path = Path(checkpoint)
    models = models_of(path)
    found = {name: each for name, each in models if isinstance(each, Classifier)}
    chosen = found.get(model or "student")
    if chosen is None and model is None:
        chosen = next(iter(found.values()), None)
    if chosen is None:
        known = ", ".join(f"{name} ({type(each).__name__})" for name, each in models)
        named = "" if model is None else f" {model!r}"
        raise InputError(f"{path}: expected a classifier{named}, found {known}.")
    chosen.provenance = {"source": str(path), "sha256": sha256_of(path)}
    return chosen


def bundled_classifier(name: str) -> Classifier:
    """A classifier that comes with kdlight.

    Args:
        name: Its name, such as ``digits_classifier``; ``kdlight/assets`` holds the model cards.

    Raises:
        InputError: There is none of that name.
    """
    known = sorted(path.stem for path in ASSETS.glob("*_classifier.safetensors"))
    if name not in known:
        raise InputError(
            f"name: expected a bundled classifier ({', '.join(known) or 'none here'}), found "
            f"{name!r}."
        )
    made = run_classifier(str(ASSETS / f"{name}.safetensors"))
    # Where kdlight is installed says nothing about the teacher.
    assert made.provenance is not None
    made.provenance["source"] = f"bundled: {name}"
    return made


def torchvision_classifier(
    name: str,
    weights: str,
    num_classes: int = 1000,
    settings: dict[str, Any] | None = None,
    size: int | None = None,
    new_head: bool = False,
) -> TorchvisionClassifier:
    """A classifier of torchvision with weights from a file of this machine.

    Args:
        name: As ``torchvision.models.list_models`` has it.
        weights: A ``.safetensors`` file or a PyTorch checkpoint of tensors, such as torchvision
            leaves in its cache.
        num_classes: Number of classes.
        settings: Other arguments of the network.
        size: Images are resized to this; None for as they come.
        new_head: Whether the last layer is drawn anew, for other classes than the file's.

    Raises:
        InputError: There is no such network or file, or the two do not fit.
    """
    made = TorchvisionClassifier(name, num_classes, settings, size)
    return _filled(made, weights, new_head)


def timm_classifier(
    name: str,
    weights: str,
    num_classes: int = 1000,
    settings: dict[str, Any] | None = None,
    size: int | None = None,
    new_head: bool = False,
) -> TimmClassifier:
    """A classifier of timm with weights from a file of this machine; of the extra ``timm``.

    Args:
        name: As ``timm.list_models`` has it.
        weights: A ``.safetensors`` file or a PyTorch checkpoint of tensors.
        num_classes: Number of classes.
        settings: Other arguments of the network.
        size: Images are resized to this; None for as they come.
        new_head: Whether the last layer is drawn anew, for other classes than the file's.

    Raises:
        InputError: timm is not installed, there is no such network or file, or the two do not fit.
    """
    made = TimmClassifier(name, num_classes, settings, size)
    cfg: dict[str, Any] = getattr(made.model, "pretrained_cfg", None) or {}
    mean, std = cfg.get("mean") or MEAN, cfg.get("std") or SPREAD
    made = TimmClassifier(name, num_classes, settings, size, list(mean), list(std))
    return _filled(made, weights, new_head)


def transformers_classifier(path: str) -> TransformersClassifier:
    """An image classifier out of a folder of transformers, or by its name on the hub.

    Its processor says mean, spread and size; without one it is taken as trained on [-1, 1] at the
    size in its configuration. No code of the folder is run.

    Args:
        path: Folder, or name on the hub.

    Raises:
        InputError: There is no such model with all its weights.
    """
    from transformers import AutoModelForImageClassification

    expected = "an image classifier of transformers"
    loaded = whole(AutoModelForImageClassification, path, expected, dtype=torch.float32)
    said = processor_settings(path)
    config = {key: value for key, value in loaded.config.to_dict().items() if value is not None}
    size = said.get("crop_size") or said.get("size") or config.get("image_size")
    with one_sentence(path, expected):
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        mean, std = said.get("image_mean", [0.5] * 3), said.get("image_std", [0.5] * 3)
        if not said.get("do_normalize", True):
            mean, std = [0.0] * 3, [1.0] * 3
        made = TransformersClassifier(config, size, mean, std)
        load_weights(made.model, loaded.state_dict(), path)
    made.provenance = {"source": path}
    return made


def processor_settings(path: str) -> dict[str, Any]:
    """What a folder, or a name on the hub, says of the preparation of images; empty if nothing.

    Raises:
        InputError: A folder's file is damaged, which the library would take for none.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = Path(path) / name
        if is_there(file) and not isinstance(read_json(file), dict):
            raise InputError(f"{file}: expected settings by name, found something else.")
    from transformers import ImageProcessingMixin

    try:
        with hub_or_cache(path):
            return dict(ImageProcessingMixin.get_image_processor_dict(path)[0])
    except OSError:
        return {}


def _filled(made: Made, weights: str, new_head: bool) -> Made:
    """``made`` with the weights of a file."""
    path = Path(weights)
    tensors = load_tensors(path)
    for key in ("state_dict", "model"):
        if isinstance(tensors.get(key), dict):
            tensors = tensors[key]
    known = {str(name).removeprefix("module."): value for name, value in tensors.items()}
    if new_head:
        own = made.model.state_dict()
        head = _head(own)
        if not any(name in known and known[name].shape == own[name].shape for name in own):
            raise InputError(f"{path}: expected weights of this network, found none.")
        known |= {name: own[name] for name in head}
    load_weights(made.model, known, str(path))
    made.provenance = {"source": str(path), "sha256": sha256_of(path)}
    return made


def _head(own: dict[str, Tensor]) -> list[str]:
    """Names of weight and bias of the last matrix."""
    last = [name for name, value in own.items() if value.ndim == 2 and name.endswith(".weight")][-1]
    return [name for name in own if name.startswith(last.removesuffix("weight"))]
