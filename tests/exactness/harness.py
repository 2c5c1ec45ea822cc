"""The shared harness: every method is held to the same exactness, through the same code.

A method adds one :class:`Case` to the cases of its domain and is then tested for bit-equal resume,
equality of two ranks with one, an untouched and unsaved teacher, and the guard against non-finite
gradients.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from datamodules.loader import StreamLoader
from kdlight.callbacks.checkpoint import AtomicCheckpointIO
from kdlight.codec.balancer import GradientBalancer
from kdlight.training.base import DistillationModule

BATCH = 12


Maker = Callable[..., DistillationModule]


@dataclass(frozen=True)
class Case:
    """How to make one method, small, and where its stages begin."""

    make: Maker
    iterations: int
    boundaries: tuple[int, ...] = ()
    parts: tuple[str, ...] = ("image", "label")
    data_module: Callable[[int], L.LightningDataModule] | None = None

    def data(self, batch_size: int = BATCH) -> L.LightningDataModule:
        """What it trains on, at a batch size of one rank."""
        if self.data_module is not None:
            return self.data_module(batch_size)
        return TinyImages(batch_size, parts=self.parts)


class TinyImages(L.LightningDataModule):
    """Forty random 4x4 images in two classes, streamed by the project's own loader.

    ``parts`` says what a batch holds: ``image``, ``label``, ``noise``.
    """

    shape = (1, 4, 4)
    num_classes = 2

    def __init__(
        self,
        batch_size: int = BATCH,
        steps_per_epoch: int = 7,
        parts: tuple[str, ...] = ("image", "label"),
    ) -> None:
        super().__init__()
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.parts = parts

    def train_dataloader(self) -> StreamLoader:
        generator = torch.Generator().manual_seed(5)
        image = torch.rand(40, *self.shape, generator=generator) * 2 - 1
        noise = torch.randn(40, *self.shape, generator=generator)
        known = {"image": image, "label": torch.arange(40) % 2, "noise": noise}
        return StreamLoader(
            {name: known[name] for name in self.parts},
            batch_size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            seed=3,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )


NOISE = ("noise", "label")


PAIRS = ("image", "noise", "label")


class SaveAt(L.Callback):
    """Saves a checkpoint after the given iterations."""

    def __init__(self, folder: Path, iterations: tuple[int, ...]) -> None:
        self.folder, self.iterations = folder, iterations

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.iteration in self.iterations:
            trainer.save_checkpoint(self.folder / f"{pl_module.iteration}.ckpt")


def fit(
    module: DistillationModule,
    data: L.LightningDataModule | None = None,
    callbacks: list[L.Callback] | None = None,
    ckpt_path: Path | None = None,
    **trainer: Any,
) -> DistillationModule:
    """Train to the module's own end, silently."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [AtomicCheckpointIO()],
    } | trainer
    runner = L.Trainer(callbacks=callbacks, **settings)
    runner.fit(module, datamodule=data or TinyImages(), ckpt_path=ckpt_path, weights_only=True)
    return module


def state(module: DistillationModule) -> dict[str, Tensor]:
    found = {k: v.detach().clone() for k, v in module.state_dict().items() if torch.is_tensor(v)}
    for part in module.modules():
        if isinstance(part, GradientBalancer):
            found |= {f"norms.{name}": norm.clone() for name, norm in part.norms.items()}
    return found


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> Iterator[str]:
    assert a.keys() == b.keys()
    return (key for key in a if not torch.equal(a[key], b[key]))
