"""Checkpoints that are whole or not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kdlight.storage.atomic import atomic_path
from kdlight.training.base import DistillationModule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so a kill leaves the last good checkpoint.

    Args:
        prepare: What to change in a checkpoint that is read, in place.
    """

    def __init__(self, prepare: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._prepare = prepare

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        checkpoint: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        if self._prepare is not None:
            self._prepare(checkpoint)
        return checkpoint


class LastCheckpoint(L.pytorch.callbacks.Checkpoint):
    """Keeps ``last.ckpt``, replaced every so many iterations, at SIGTERM and at the end.

    Args:
        folder: Where the checkpoint lies.
        every: Iterations between checkpoints.
    """

    def __init__(self, folder: Path, every: int = 500) -> None:
        self.path = folder / "last.ckpt"
        self.every = every
        self._saved = -1

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, DistillationModule)
        # The last one too, before the figures of the end, which may take minutes.
        done = pl_module.iteration >= pl_module.iterations
        if done or pl_module.iteration % self.every == 0:
            self._save(trainer, pl_module.iteration)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        if pl_module.iteration != self._saved:
            self._save(trainer, pl_module.iteration)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        # A cluster's warning, which Lightning raises between two batches: nothing is half done.
        assert isinstance(pl_module, DistillationModule)
        if isinstance(exception, SIGTERMException) and pl_module.iteration != self._saved:
            self._save(trainer, pl_module.iteration)

    def _save(self, trainer: L.Trainer, iteration: int) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = iteration
