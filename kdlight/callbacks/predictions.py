"""Writes what ``predict`` computes."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kdlight.storage.atomic import atomic_path


class PredictionFile(L.Callback):
    """Keeps all predictions and the labels they were made for, and writes one file.

    The file holds ``image`` (N, C, H, W) if the predictions are samples, else ``prediction``, and
    ``label`` (N,) if the data have labels: what ``evaluate images --samples`` reads. Every rank
    writes its own file.

    Args:
        path: Where; ``.pt``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[str, list[Tensor]] = {}

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        key = "image" if outputs.shape == batch["image"].shape else "prediction"
        self._made.setdefault(key, []).append(outputs.cpu())
        if "label" in batch:
            self._made.setdefault("label", []).append(batch["label"].cpu())

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        path = self._path
        if trainer.world_size > 1:
            path = path.with_stem(f"{path.stem}_{trainer.global_rank}")
        with atomic_path(path) as temporary:
            torch.save({name: torch.cat(parts) for name, parts in self._made.items()}, temporary)
