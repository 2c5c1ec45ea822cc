"""Encoders of images that have been trained, each by a function that a YAML file can name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from kdlight.errors import InputError
from kdlight.networks.images.foreign_classifiers import MEAN, SPREAD
from kdlight.networks.images.vit import TokenEncoder, TransformersViT, TransformersViTMAE
from kdlight.storage.files import sha256_of
from kdlight.storage.pretrained import one_sentence, whole
from kdlight.teachers.checkpoint import models_of
from kdlight.teachers.classifiers import processor_settings


def run_encoder(checkpoint: str) -> TokenEncoder:
    """The encoder of a masked autoencoder or of a classifier that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.

    Raises:
        InputError: The file is missing or damaged, or holds no such encoder.
    """
    path = Path(checkpoint)
    models = models_of(path)
    for _, model in models:
        encoder = getattr(model, "encoder", model)
        if isinstance(encoder, TokenEncoder):
            encoder.provenance = {"source": str(path), "sha256": sha256_of(path)}
            return encoder
    raise InputError(
        f"{path}: expected a model with an encoder of patches, found {type(models[0][1]).__name__}."
    )


def vit_mae_encoder(path: str, blocks: int | None = None) -> TransformersViTMAE:
    """The encoder of a ``ViTMAEModel`` out of a folder of transformers, or by its name on the hub.

    Its processor says mean and spread; without one they are ImageNet's.

    Args:
        path: Folder, or name on the hub, such as ``facebook/vit-mae-large``.
        blocks: How many blocks are kept; None for all.

    Raises:
        InputError: There is no such model with all its weights, or not so many blocks.
    """
    from transformers import ViTMAEModel

    expected = "a ViTMAE of transformers"
    loaded = whole(ViTMAEModel, path, expected, dtype=torch.float32)
    return _filled(TransformersViTMAE, loaded, path, expected, blocks, (MEAN, SPREAD))


def vit_encoder(path: str, blocks: int | None = None) -> TransformersViT:
    """The encoder of a ``ViTModel`` or of a classifier upon one, out of a folder or off the hub.

    Its processor says mean and spread; without one it is taken as trained on [-1, 1].

    Args:
        path: Folder, or name on the hub, such as ``facebook/deit-base-patch16-224``.
        blocks: How many blocks are kept; None for all.

    Raises:
        InputError: There is no such model with all its weights, or not so many blocks.
    """
    from transformers import ViTModel

    expected = "a ViT of transformers"
    loaded = whole(ViTModel, path, expected, dtype=torch.float32, add_pooling_layer=False)
    return _filled(TransformersViT, loaded, path, expected, blocks, ([0.5] * 3, [0.5] * 3))


Made = TypeVar("Made", bound=TransformersViTMAE)


def _filled(
    kind: type[Made],
    loaded: Any,
    path: str,
    expected: str,
    blocks: int | None,
    channels: tuple[Sequence[float], Sequence[float]],
) -> Made:
    """An encoder with the weights of a model; ``channels`` are for a folder that names none."""
    config = {key: value for key, value in loaded.config.to_dict().items() if value is not None}
    if blocks is not None and not 1 <= blocks <= len(loaded.layers):
        raise InputError(f"blocks: expected 1 to {len(loaded.layers)}, found {blocks}.")
    said = processor_settings(path)
    mean, std = said.get("image_mean", channels[0]), said.get("image_std", channels[1])
    with one_sentence(path, expected):  # the processor may say anything
        made = kind(config, blocks, mean, std)
    kept = made.model.state_dict()
    made.model.load_state_dict({name: loaded.state_dict()[name] for name in kept})
    made.provenance = {"source": path}
    return made
