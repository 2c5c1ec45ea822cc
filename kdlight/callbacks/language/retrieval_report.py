"""Runs the metrics of encoders that find passages: while they train, and when training ends."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.language.retrieval import RetrievalFit
from kdlight.networks.text.encoder import TextEncoder
from kdlight.report.table import summary_table
from kdlight.storage.files import write_json
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of

AT_ONCE = 256
"""Texts of a call."""


@runtime_checkable
class Encodes(Protocol):
    """A method that ends in encoders of texts."""

    def encoders(self) -> dict[str, tuple[str, TextEncoder]]:
        """Names and encoders, by their state-dict prefix."""


class RetrievalReport(L.Callback):
    """How well the encoders that a run trains find passages, and its teachers.

    Held-out queries are searched among all passages of the data
    (:class:`~kdlight.metrics.language.retrieval.RetrievalFit`): at every validation as
    ``val/<figure>``, of the last exit where an encoder has several; when training ends (and for
    ``test``) one row a model, the teachers' mean score first, printed, and written to
    ``summary.json``.

    Raises:
        InputError: Before training starts, a method without encoders, or data without passages.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if not isinstance(pl_module, Encodes) or not hasattr(data, "teachers"):
            raise InputError(
                "trainer.callbacks: RetrievalReport: expected a method that ends in encoders and "
                f"data of queries, found {type(pl_module).__name__} and {type(data).__name__}."
            )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, DistillationModule)
        row = self._rows(trainer, pl_module)[-1]
        logged = {f"val/{key}": value for key, value in row.items() if key != "model"}
        logged["iteration"] = float(pl_module.iteration)
        pl_module.log_dict(logged, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def _summarise(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        folder = trainer.log_dir  # a collective: every rank asks, and once
        if not folder or not trainer.is_global_zero:
            return
        rows = self._rows(trainer, pl_module)
        write_json(Path(folder) / "summary.json", rows)
        console = Console()
        (console if console.is_terminal else Console(width=140)).print(summary_table(rows))

    @torch.no_grad()
    def _rows(self, trainer: L.Trainer, method: DistillationModule) -> list[dict[str, Any]]:
        assert isinstance(method, Encodes)
        data = data_of(trainer)
        found = data.parts[1]
        scored = {} if found.scores is None else {"teacher": (found.scores, None)}
        for name, model in method.encoders().values():
            queries = _encoded(model, found.queries, found.queries_mask, method.device)
            passages = _encoded(model, found.passages, found.passages_mask, method.device)
            scored[name] = (queries @ passages.T, found.scores)
        rows = []
        for each, (scores, teacher) in scored.items():
            metric = RetrievalFit(teacher is not None)
            metric.update(scores, found.relevant, teacher)
            figures = metric.compute()
            rows.append({"model": each} | {key: float(figures[key]) for key in metric.names})
        return rows


def _encoded(model: TextEncoder, tokens: Tensor, mask: Tensor, device: torch.device) -> Tensor:
    """Vectors of texts, on the CPU, from a model that is left as it was."""
    training = model.training
    model.eval()
    parts = zip(torch.split(tokens, AT_ONCE), torch.split(mask, AT_ONCE), strict=True)
    vectors = [model(some.to(device), seen.to(device)).float().cpu() for some, seen in parts]
    model.train(training)
    return torch.cat(vectors)
