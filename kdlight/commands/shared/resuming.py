"""What continuing a run starts from: whether anything is left to train, and in which order."""

from pathlib import Path
from typing import Any

from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.training.base import DistillationModule


class DoneError(Exception):
    """A run that is finished was asked to continue."""


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in; None for a file elsewhere."""
    folder = checkpoint.absolute().parent.parent
    return folder if (folder / "run.json").is_file() else None


def is_finished(module: DistillationModule, checkpoint: Path) -> bool:
    """Whether a run went to its end, which comes after its last iteration: the final figures.

    Args:
        module: The method, with the checkpoint's state.
        checkpoint: Where that came from.
    """
    if module.iteration < module.iterations:
        return False
    folder = run_of(checkpoint)
    try:
        return folder is None or "iterations" in read_json(folder / "run.json")
    except InputError:
        return False


def accept_another_order(checkpoint: dict[str, Any], data: str) -> None:
    """Let the training loader of this run go on although its order is not the checkpoint's.

    Args:
        checkpoint: As Lightning is about to read it; changed in place.
        data: Name of the data module's class, under which it keeps the loader's state too.
    """
    loaders = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
    for state in (*loaders, checkpoint.get(data, {})):
        if "batches" in state:
            state["inexact"] = True
