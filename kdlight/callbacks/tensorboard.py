"""What a run wrote into its folder, also on the live dashboard, where there is one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from kdlight.storage.audio import read_audio
from kdlight.storage.files import read_json


def writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """TensorBoard's writers of this run: none without TensorBoard, or on a later rank."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                yield logger.experiment


def show_picture(trainer: L.Trainer, tag: str, path: Path, iteration: int) -> None:
    """Show a picture file under a name; later ones of that name become a slider over iterations."""
    for writer in writers(trainer):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        writer.add_image(tag, pixels, iteration, dataformats="HWC")


def show_utterances(trainer: L.Trainer, folder: Path, iteration: int) -> None:
    """Let be heard and seen what :func:`~.speech.utterances.save_utterances` wrote."""
    for writer in writers(trainer):
        for utterance in read_json(folder / "utterances.json"):
            for stem in (version["file"] for version in utterance["versions"]):
                audio = read_audio(folder / f"{stem}.flac").clamp(-1, 1)
                writer.add_audio(f"samples/{stem}", audio, iteration, utterance["sample_rate"])
                show_picture(trainer, f"samples/{stem}", folder / f"{stem}.png", iteration)


def show_settings(trainer: L.Trainer, config: Any) -> None:
    """Put a configuration, flattened, into the table of hyperparameters."""
    for writer in writers(trainer):
        # Lightning's own call would add a figure `hp_metric` that nobody measured.
        for summary in hparams(flattened(config), {}):  # type: ignore[no-untyped-call]
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


def flattened(settings: Any, key: str = "") -> dict[str, str | float | bool]:
    """Nested settings by dotted keys, as on the command line: ``model.init_args.optimizer.lr``."""
    if isinstance(settings, dict | list) and settings:
        items = settings.items() if isinstance(settings, dict) else enumerate(settings)
        found: dict[str, str | float | bool] = {}
        for name, value in items:
            found |= flattened(value, f"{key}.{name}" if key else str(name))
        return found
    return {key: settings if isinstance(settings, str | int | float) else str(settings)}
