"""Models that say a recording in another voice."""

from pathlib import Path

from kdlight.errors import InputError
from kdlight.networks.speech.timbre_converter import TimbreConverter
from kdlight.teachers.checkpoint import models_of


def voice_converter(checkpoint: str, model: str | None = None) -> TimbreConverter:
    """A converter of any voice to any, that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.
        model: Which model of the file; None takes the first.

    Returns:
        In evaluation mode.

    Raises:
        InputError: The file is missing or damaged, or holds no such converter.
    """
    path = Path(checkpoint)
    models = models_of(path)
    found = {name: each for name, each in models if isinstance(each, TimbreConverter)}
    if not found:
        kind = type(models[0][1]).__name__
        raise InputError(f"{path}: expected a converter of voices, found a {kind}.")
    if model is not None and model not in found:
        raise InputError(f"{path}: expected a model called {model!r}, found {', '.join(found)}.")
    chosen = next(iter(found.values())) if model is None else found[model]
    return chosen.eval()
