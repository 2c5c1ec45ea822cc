"""Classifiers of texts as teachers."""

from pathlib import Path

from kdlight.errors import InputError
from kdlight.networks.text.classifier import TextClassifier
from kdlight.teachers.checkpoint import models_of


def classifier_teacher(checkpoint: str) -> TextClassifier:
    """A classifier of texts that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.

    Raises:
        InputError: The file is missing or damaged, or holds no classifier of texts.
    """
    path = Path(checkpoint)
    models = [model for _, model in models_of(path)]
    for model in models:
        if isinstance(model, TextClassifier):
            return model
    raise InputError(f"{path}: expected a classifier of texts, found {type(models[0]).__name__}.")
