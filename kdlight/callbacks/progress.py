"""One progress bar over the whole run, whatever Lightning's epochs are."""

import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kdlight.training.base import DistillationModule


class StageProgress(L.Callback):
    """Shows iterations done, the stage the method is in, and the time left.

    On a terminal it is a bar; elsewhere a line is printed every ``interval`` seconds.

    Args:
        interval: Seconds between lines where there is no terminal.
    """

    def __init__(self, interval: float = 15.0) -> None:
        self._interval = interval
        self._bar: Progress | None = None
        self._last = 0.0
        self._console = Console(stderr=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._last = time.monotonic()
        if self._console.is_terminal:
            assert isinstance(pl_module, DistillationModule)
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                pl_module.describe_stage(),
                total=pl_module.iterations,
                completed=pl_module.iteration,
            )

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self._last < (0.2 if self._bar else self._interval):
            return
        self._last = now
        assert isinstance(pl_module, DistillationModule)
        done, total, stage = pl_module.iteration, pl_module.iterations, pl_module.describe_stage()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=stage)
        else:
            self._console.print(f"{stage}: iteration {done} of {total}", highlight=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._bar is not None:
            assert isinstance(pl_module, DistillationModule)
            self._bar.update(self._task, completed=pl_module.iteration)
        self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._close()
