"""Noise and prompts alone: what text-to-image methods without pictures train on."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.images.base import ImageDataModule
from datamodules.images.noise import NoiseLoader
from datamodules.images.reference import ReferencedDataModule
from datamodules.loader import Batch
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import is_there
from kdlight.storage.text import read_lines
from kdlight.teachers.pipelines.autoencoder import latent_shape
from kdlight.teachers.pipelines.text import TextEncoder, embedded


class PromptLoader(NoiseLoader):
    """Endless batches of noise with what is told of prompts, drawn from (seed, batch).

    Args:
        told: What is told of each prompt, ``text`` (N, L, D) and so on.
        shape: Shape of one latent.
        kwargs: Of :class:`~datamodules.images.noise.NoiseLoader`.
    """

    def __init__(self, told: Condition, shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(shape, len(next(iter(told.values()))), **kwargs)
        self.told = {name: rows.to(self.device) for name, rows in told.items()}

    def next_batch(self) -> Batch:
        batch = super().next_batch()
        number = batch.pop("label")
        return batch | {name: rows[number].float() for name, rows in self.told.items()}


class PromptsDataModule(ReferencedDataModule):
    """Data-free training of a text-to-image model: batches of noise, and embedded prompts.

    Batches are ``{"noise": (B, *shape), "text": (B, L, D), ...}`` with all that the pipeline's
    network is told of a prompt. The prompts are embedded once, before training starts, by the
    first process, and kept in ``cache`` as float16.

    Args:
        prompts: Text file, a prompt a line; empty lines are left out.
        path_or_id: Pipeline that embeds them: the teacher's.
        size: Side of the pictures, pixels.
        cache: Folder of the embedded prompts; null for ``.prompts`` beside the file.
        reference: What samples are compared with; training never touches it. Null for none.
        device: Where embedding runs.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of noise and prompts.
    """

    def __init__(
        self,
        prompts: str,
        path_or_id: str,
        size: int = 512,
        cache: str | None = None,
        reference: ImageDataModule | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        batch_size: int = 16,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(reference, batch_size, steps_per_epoch, seed)
        self.prompts = Path(prompts)
        self.path_or_id = path_or_id
        self.size = size
        self.cache = self.prompts.parent / ".prompts" if cache is None else Path(cache)
        self.device = device

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return latent_shape(self.path_or_id, self.size)

    @property
    def num_classes(self) -> int:
        return 0

    @cached_property
    def _lines(self) -> list[str]:
        lines = [line.strip() for line in read_lines(self.prompts)]
        found = [line for line in lines if line]
        if not found:
            raise InputError(f"{self.prompts}: expected a prompt a line, found none.")
        return found

    @cached_property
    def _file(self) -> Path:
        known = hashlib.sha256("\n".join([self.path_or_id, *self._lines]).encode())
        return self.cache / f"{known.hexdigest()[:16]}.safetensors"

    def prepare_data(self) -> None:
        """Embed, in one process, while the others wait."""
        if is_there(self._file):
            return
        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = TextEncoder(self.path_or_id).to(device if self.device == "auto" else self.device)
        told = embedded(encoder, tqdm(self._lines, "Embedding", delay=2, leave=False))
        with atomic_path(self._file) as temporary:
            save_file({name: rows.half() for name, rows in told.items()}, temporary)

    def make_train_loader(self) -> PromptLoader:
        self.prepare_data()
        try:
            told = load_file(self._file)
        except (SafetensorError, OSError):
            raise InputError(f"{self._file}: truncated; delete it to embed again.") from None
        rank, world_size = self.ranks
        return PromptLoader(
            told,
            self.shape,
            batch_size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            device="cpu" if self.trainer is None else self.trainer.strategy.root_device,
        )
