"""How well a run's student finds entities, beside its teacher."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from rich.console import Console
from torch import Tensor, nn

from kdlight.errors import InputError
from kdlight.report.table import summary_table
from kdlight.selection.spans import Span, agreement, aligned, spans_of
from kdlight.storage.files import write_json
from kdlight.training.data import data_of


@runtime_checkable
class HasEntities(Protocol):
    """Data whose held-out texts have known entities."""

    heldout_texts: list[str]

    def gold(self, text: str) -> list[Span]:
        """The entities of a text."""

    def rows_of(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts as rows of tokens."""


class EntityReport(L.Callback):
    """Strict F1 of entities, micro-averaged, when training ends and at every validation.

    The student's over all held-out texts, whose names it has not seen; the teacher's over what it
    was asked, so that no call is made for it. Written to ``summary.json``.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if not isinstance(data, HasEntities) or not hasattr(pl_module, "strategy"):
            raise InputError(
                "trainer.callbacks: EntityReport: expected a method that learns entities and data "
                f"that know them, found {type(pl_module).__name__} and {type(data).__name__}."
            )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        figures = self._student(trainer, pl_module)
        pl_module.log("val/entity_f1", float(figures["entity_f1"]), rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def _summarise(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = trainer.log_dir  # a collective: every rank asks, and once
        if not trainer.is_global_zero:
            return
        rows = [self._student(trainer, pl_module)]
        method: Any = pl_module
        if method.answers:
            rows.insert(0, self._teacher(trainer, method))
        if folder:
            write_json(Path(folder) / "summary.json", rows)
            console = Console()
            (console if console.is_terminal else Console(width=120)).print(summary_table(rows))

    def _teacher(self, trainer: L.Trainer, method: Any) -> dict[str, Any]:
        data = data_of(trainer)
        found = [aligned(text, method.strategy.entities(answer)) for text, answer in method.answers]
        gold = [data.gold(text) for text, _ in method.answers]
        return {"model": "teacher", **_figures(found, gold), "answers": len(found)}

    def _student(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        data = data_of(trainer)
        method: Any = pl_module
        network = method.ema.module
        rows = data.rows_of(data.heldout_texts)
        tags = tags_by(network, rows["tokens"], pl_module.device)
        found = [
            spans_of(row[:length], method.strategy.types)
            for row, length in zip(tags.tolist(), rows["lengths"].tolist(), strict=True)
        ]
        gold = [data.gold(text) for text in data.heldout_texts]
        asked = sum(map(len, method.asked))
        refused = sum(method.refused.values())
        return {
            "model": "student",
            **_figures(found, gold),
            "answers": asked,
            "answers_refused": refused,
        }


def _figures(found: list[list[Span]], gold: list[list[Span]]) -> dict[str, float]:
    scores = agreement(found, gold)
    return {f"entity_{name}": value for name, value in scores._asdict().items()}


@torch.no_grad()
def tags_by(network: nn.Module, tokens: Tensor, device: torch.device) -> Tensor:
    """The likeliest tags of rows (N, L); the network is left as it was."""
    training = network.training
    network.eval()
    found = [network(some.to(device)).argmax(dim=2).cpu() for some in torch.split(tokens, 250)]
    network.train(training)
    return torch.cat(found)
