"""What a run does beside its steps: the loader and the checkpoint, as shares of a step."""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L

from datamodules.images.digits import DigitsDataModule
from kdlight.callbacks.checkpoint import AtomicCheckpointIO
from modules.diffusion.diffusion_training import DiffusionTraining
from tests.benchmarks.training import BATCH, teacher_settings

EVERY = 500  # batches between checkpoints, the default of `kdlight fit`


def median_seconds(call: Callable[[], object], turns: int) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Save(L.Callback):
    """Times the writing of a whole checkpoint after a few steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"
        self.seconds = 0.0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = median_seconds(lambda: trainer.save_checkpoint(self.path), 5)


def shares(step: float) -> list[str]:
    """Lines of the table.

    Args:
        step: Seconds of a training step of the teacher.
    """
    data = DigitsDataModule(BATCH)
    stream: Any = iter(data.train_dataloader())
    batch = median_seconds(lambda: list(itertools.islice(stream, 20)), 20) / 20
    denoiser, optimizer, _ = teacher_settings()
    with TemporaryDirectory() as folder:
        save = Save(Path(folder))
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            limit_val_batches=0,
            logger=False,
            callbacks=[save],
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(DiffusionTraining(denoiser, [1, 8, 8], optimizer, 3), datamodule=data)
    return [
        f"{name:<50}{seconds * 1e3:9.3f}{'':9} {'step':<8}{seconds / step:9.2%} of a step"
        for name, seconds in (
            (f"loader, a batch of {BATCH} from memory", batch),
            (f"checkpoint every {EVERY} batches", save.seconds / EVERY),
        )
    ]
