"""Domains in the shares of where the student is behind its teacher (DDK, arXiv:2407.16154)."""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor, nn

from kdlight.errors import InputError
from kdlight.selection.mixture import first_shares, next_shares, perplexity_ratios
from kdlight.selection.scores import row_scores
from kdlight.training.data import data_of

AT_ONCE = 250
"""Rows of a call."""


@runtime_checkable
class MixesDomains(Protocol):
    """Data of several domains whose shares may change."""

    names: list[str]

    def measured_rows(self) -> list[dict[str, Tensor]]:
        """Of each domain, rows that are neither trained on nor held out."""


class FollowStudent(L.Callback):
    """Changes the shares of the domains every ``every`` batches, the first time before the first.

    The measurement is made when a batch is asked for, not when one has ended, so that a run that
    is resumed from any checkpoint makes it too; the shares are in the state of the loader. All
    ranks take those of the first.

    Args:
        every: Batches between two measurements (K; the paper takes 1,000, and loses 2.9 points with
            50).
        smoothing: See :func:`~kdlight.selection.mixture.next_shares`.
        most: Where the ratio of perplexities is cut off; the paper cuts nothing.

    Raises:
        InputError: A number is out of range; or, before training starts, data without domains, or a
            method without a teacher and a student.
    """

    def __init__(self, every: int = 1000, smoothing: float = 0.5, most: float = 10.0) -> None:
        if every < 1 or not 0 <= smoothing <= 1 or not most >= 1:
            raise InputError(
                "every, smoothing, most: expected at least 1, a share from 0 to 1 and at least 1, "
                f"found {every}, {smoothing} and {most}."
            )
        self.every, self.smoothing, self.most = every, smoothing, most
        self.shares: Tensor | None = None
        self.student: Tensor | None = None
        self.teacher: Tensor | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if not isinstance(data, MixesDomains):
            raise InputError(
                "trainer.callbacks: FollowStudent: expected data of several domains, found "
                f"{type(data).__name__}."
            )
        lacks = [name for name in ("student", "teacher") if not hasattr(pl_module, name)]
        if lacks:
            raise InputError(
                f"trainer.callbacks: FollowStudent: expected a method with a {lacks[0]}, found "
                f"{type(pl_module).__name__}."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        loader.every = self.every
        loader.follow = partial(self._shares, trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.shares is None or self.student is None:
            return
        names = data_of(trainer).names
        figures = {"share": self.shares, "measured_nll": self.student}
        logged = {
            f"val/{what}_{name}": float(value)
            for what, values in figures.items()
            for name, value in zip(names, values, strict=True)
        }
        pl_module.log_dict(logged, rank_zero_only=True)

    def _shares(
        self, trainer: L.Trainer, pl_module: L.LightningModule, before: Tensor | None
    ) -> Tensor:
        data = data_of(trainer)
        rows = data.measured_rows()
        if self.teacher is None:
            self.teacher = nats_of(pl_module.get_submodule("teacher"), rows)
        self.student = nats_of(pl_module.get_submodule("student"), rows)
        ratios = perplexity_ratios(self.student, self.teacher, self.most)
        found = (
            first_shares(ratios) if before is None else next_shares(before, ratios, self.smoothing)
        )
        self.shares = trainer.strategy.broadcast(found)
        return self.shares


def nats_of(model: nn.Module, domains: list[dict[str, Tensor]]) -> Tensor:
    """Nats a scored token of a model in each domain, (N,) float64; it is left as it was."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    found = []
    for rows in domains:
        nll, count = 0.0, 0
        for tokens, mask in zip(
            torch.split(rows["tokens"], AT_ONCE), torch.split(rows["mask"], AT_ONCE), strict=True
        ):
            scored = mask.to(device)
            nll += float(row_scores(model, tokens.long().to(device), scored).nll.sum())  # type: ignore[arg-type]
            count += int(scored.sum())
        found.append(nll / max(1, count))
    model.train(training)
    return torch.tensor(found, dtype=torch.float64)
