"""Reports whose rows are measured once, when training ends."""

from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from rich.console import Console

from kdlight.report.table import summary_table
from kdlight.storage.files import write_json

Row = dict[str, Any]


class RowsReport(L.Callback):
    """Base: rows of ``summary.json`` and a table, when training ends and for ``test``.

    Attributes:
        headline: Columns of the table, in order; all of a row if empty. The file has every column.
    """

    headline: ClassVar[tuple[str, ...]] = ()

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        """Measure, on the first rank alone and without gradients.

        Args:
            trainer: Of the run.
            module: The method.
            folder: Of the run, for what is kept beside the rows; None if nothing is written.
        """
        raise NotImplementedError

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    @torch.no_grad()
    def _summarise(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        folder = folder_of(trainer)
        if trainer.is_global_zero:
            self._publish(self.rows(trainer, module, folder), folder)

    def _publish(self, rows: list[Row], folder: Path | None) -> None:
        if folder is not None:
            write_json(folder / "summary.json", rows)
        if self.headline:
            shown = [{key: row[key] for key in self.headline if key in row} for row in rows]
        else:
            shown = rows
        console = Console()
        (console if console.is_terminal else Console(width=140)).print(summary_table(shown))


class JointRowsReport(RowsReport):
    """Base of those whose rows all ranks measure together, each on its share of the data."""

    @torch.no_grad()
    def _summarise(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        folder = folder_of(trainer)
        rows = self.rows(trainer, module, folder)
        if trainer.is_global_zero:
            self._publish(rows, folder)


def folder_of(trainer: L.Trainer) -> Path | None:
    """The run's folder, None if nothing is written; a collective: every rank asks, and once."""
    found = trainer.log_dir
    return Path(found) if found else None
