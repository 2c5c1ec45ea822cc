"""How many tokens a call of a model gives with the draft that a run trains."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import lightning as L
from rich.console import Console

from kdlight.core.ranges import PositiveInt
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.feature_draft import FeatureDraft
from kdlight.networks.text.feature_drafter import FeatureDrafter
from kdlight.report.table import summary_table
from kdlight.speculative.writing import DraftedGenerator
from kdlight.storage.files import write_json


@runtime_checkable
class Drafts(Protocol):
    """A method that ends in a draft of features."""

    def drafting(self) -> tuple[AutoregressiveModel, FeatureDraft]:
        """The model that verifies, and the draft."""


class DraftReport(L.Callback):
    """Writes rows with the draft when training ends, and counts calls of the target.

    One row in ``summary.json``: ``block_efficiency``, tokens of a call, at temperature 1, and
    ``block_efficiency_greedy`` at temperature 0; the shares of drafted tokens that were kept.

    Args:
        rows: Rows that are written at each temperature, from the same numbers for every run.
        block: Tokens of a draft.
        seed: Of the rows.

    Raises:
        InputError: Before training starts, a method that trains no draft.
    """

    def __init__(self, rows: PositiveInt = 200, block: PositiveInt = 4, seed: int = 1234) -> None:
        self.rows, self.block, self.seed = rows, block, seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Drafts):
            raise InputError(
                "trainer.callbacks: DraftReport: expected a method that trains a draft, found "
                f"{type(pl_module).__name__}."
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Drafts)
        folder = trainer.log_dir  # a collective: every rank asks, and once
        if not folder or not trainer.is_global_zero:
            return
        target, draft = pl_module.drafting()
        row: dict[str, float | str] = {"model": "student"}
        for name, temperature in (("", 1.0), ("_greedy", 0.0)):
            drafter = FeatureDrafter(target, draft, self.block, temperature)
            writer = DraftedGenerator(target, drafter, temperature)
            writer(writer.masks(self.rows, pl_module.device), self.seed)
            drafter.end()
            row[f"block_efficiency{name}"] = writer.account.tokens / writer.account.calls
            row[f"acceptance{name}"] = writer.account.kept / max(1, writer.account.tried)
        write_json(Path(folder) / "summary.json", [row])
        console = Console()
        (console if console.is_terminal else Console(width=140)).print(summary_table([row]))
