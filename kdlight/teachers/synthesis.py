"""Teachers that speak."""

from pathlib import Path

from kdlight.errors import InputError
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.storage.files import sha256_of
from kdlight.teachers.checkpoint import models_of


def synthesis_teacher(
    checkpoint: str, steps: int | None = None, model: str | None = None
) -> Synthesiser:
    """A synthesiser that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.
        steps: Number of steps it has to speak in, and is then made for; None takes the first.
        model: Which model of the file; None takes the first.

    Raises:
        InputError: The file is missing or damaged, or holds no such synthesiser.
    """
    path = Path(checkpoint)
    models = models_of(path)
    speaking = [(name, each) for name, each in models if isinstance(each, Synthesiser)]
    if not speaking:
        kind = type(models[0][1]).__name__
        raise InputError(f"{path}: expected a speech synthesiser, found a {kind}.")
    named = [each for name, each in speaking if model in (None, name)]
    if not named:
        known = ", ".join(dict.fromkeys(name for name, _ in speaking))
        raise InputError(f"{path}: expected a model called {model!r}, found {known}.")
    fitting = [each for each in named if steps is None or steps in each.steps]
    fitting += [each for each in named if steps is not None and each.accepts(steps)]
    if not fitting:
        known = ", ".join(str(count) for count in sorted({n for each in named for n in each.steps}))
        raise InputError(f"{path}: expected {known} steps, for which it was made, found {steps}.")
    found = fitting[0]
    if steps is not None and steps != found.steps[0]:
        found = found.of(found.grid, steps)
    found.provenance = {"source": str(path), "sha256": sha256_of(path)}
    return found
