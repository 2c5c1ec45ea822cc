"""Writers of captions that have been trained, by functions that a YAML file can name."""

from pathlib import Path

from kdlight.errors import InputError
from kdlight.networks.images.captioner import Captioner, upcycled
from kdlight.storage.files import sha256_of
from kdlight.teachers.checkpoint import models_of


def run_captioner(checkpoint: str) -> Captioner:
    """A captioner that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.

    Raises:
        InputError: The file is missing or damaged, or holds no captioner.
    """
    path = Path(checkpoint)
    models = models_of(path)
    for _, model in models:
        if isinstance(model, Captioner):
            model.provenance = {"source": str(path), "sha256": sha256_of(path)}
            return model
    raise InputError(
        f"{path}: expected a model that writes captions, found {type(models[0][1]).__name__}."
    )


def upcycled_captioner(dense: Captioner, experts: int = 4, top: int = 2) -> Captioner:
    """A student of experts, each of which begins as the dense model's perceptron.

    Args:
        dense: The dense model, such as a run's.
        experts: Experts of a block.
        top: How many of them work on a token.
    """
    return upcycled(dense, experts, top)
