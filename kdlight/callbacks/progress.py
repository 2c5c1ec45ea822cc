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
    """Shows iterations done, the method's stage, its losses and learning rate, and the time left.

    Losses are those last logged (``trainer.log_every_n_steps``). They are read when the bar is
    drawn, a few times a second, so no step waits for the device.

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
                TextColumn("{task.fields[figures]}"),
                console=self._console,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                pl_module.describe_stage(),
                total=pl_module.iterations,
                completed=pl_module.iteration,
                figures="",
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
        figures = describe_figures(trainer)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=stage, figures=figures)
        else:
            line = f"{stage}: iteration {done} of {total}"
            self._console.print(
                f"{line}, {figures}" if figures else line, highlight=False, soft_wrap=True
            )

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


def describe_figures(trainer: L.Trainer, most: int = 4) -> str:
    """The first ``most`` training values last logged, and the learning rate: "loss 0.12, lr 0.001".

    Waits for the device, so not for every step.
    """
    terms = {
        key.removeprefix("train/"): float(value)
        for key, value in trainer.callback_metrics.items()
        if key.startswith("train/") and key != "train/non_finite"
    }
    shown = [f"{name} {value:.3g}" for name, value in list(terms.items())[:most]]
    if trainer.optimizers:
        shown.append(f"lr {float(trainer.optimizers[0].param_groups[0]['lr']):.3g}")
    return ", ".join(shown)
