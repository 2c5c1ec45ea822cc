"""Encoders of images that have been trained, each by a function that a YAML file can name."""

from pathlib import Path

import torch

from kdlight.errors import InputError
from kdlight.networks.images.vit import TokenEncoder, TransformersViTMAE
from kdlight.storage.files import sha256_of
from kdlight.storage.pretrained import whole
from kdlight.teachers.checkpoint import models_of


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

    Args:
        path: Folder, or name on the hub, such as ``facebook/vit-mae-large``.
        blocks: How many blocks are kept; None for all.

    Raises:
        InputError: There is no such model with all its weights, or not so many blocks.
    """
    from transformers import ViTMAEModel

    loaded = whole(ViTMAEModel, path, "a ViTMAE of transformers", dtype=torch.float32)
    config = {key: value for key, value in loaded.config.to_dict().items() if value is not None}
    if blocks is not None and not 1 <= blocks <= len(loaded.layers):
        raise InputError(f"blocks: expected 1 to {len(loaded.layers)}, found {blocks}.")
    made = TransformersViTMAE(config, blocks)
    kept = made.model.state_dict()
    made.model.load_state_dict({name: loaded.state_dict()[name] for name in kept})
    made.provenance = {"source": path}
    return made
