"""What the reports share that try what was trained on labels which it never saw."""

from typing import ClassVar, Literal

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.rows import RowsReport
from kdlight.errors import InputError
from kdlight.training.data import data_of


class ProbingReport(RowsReport):
    """Base of the reports with probes: they need a method of their kind, and data with classes.

    Attributes:
        kind: Protocol of the methods.
        wanted: What such a method does, for complaints.
    """

    kind: ClassVar[type]
    wanted: ClassVar[str]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        name = type(self).__name__
        if not isinstance(pl_module, self.kind):
            raise InputError(
                f"trainer.callbacks: {name}: expected a method that {self.wanted}, found "
                f"{type(pl_module).__name__}."
            )
        data = data_of(trainer)
        if not data.num_classes:
            raise InputError(
                f"trainer.callbacks: {name}: expected data with classes, which its probes learn, "
                f"found a {type(data).__name__} without."
            )


def part_of(
    trainer: L.Trainer,
    part: Literal["reference", "heldout"],
    device: torch.device,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,) of a part of the data, the first ``most`` of them."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in data_of(trainer).one_pass(part):
        images.append(batch["image"].to(device))
        labels.append(batch["label"].to(device))
        if most is not None and sum(map(len, labels)) >= most:
            break
    return torch.cat(images)[:most], torch.cat(labels)[:most]
