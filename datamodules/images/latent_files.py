"""ImageNet's latents as EDM2's release keeps them: a zip, or a folder, of arrays with labels."""

import operator
import os
import zipfile
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.images.base import ImageDataModule, Splits, stratified_split
from datamodules.loader import Batch
from datamodules.order import seeded
from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.json_text import parse_json
from kdlight.teachers.published.edm2_latents import standardized

INDEX = "dataset.json"
MOST_CLASSES = 10**6


class LatentArchive:
    """Arrays of a zip or of a folder, read by name.

    A process opens the zip for itself: workers must not share a position in it.

    Args:
        path: The zip or the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None

    def read(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            InputError: There is none, or the zip is damaged.
        """
        try:
            if self.path.is_dir():
                return (self.path / name).read_bytes()
            if self._open is None or self._open[0] != os.getpid():
                self._open = os.getpid(), zipfile.ZipFile(self.path)
            return self._open[1].read(name)
        except (OSError, KeyError, zipfile.BadZipFile, EOFError):
            raise InputError(f"{self.path}: expected {name} in it, found none.") from None

    def array(self, name: str) -> Tensor:
        """Means and standard deviations of a posterior, (2, C, H, W), float32.

        Raises:
            InputError: The entry is no such array.
        """
        try:
            found = np.load(BytesIO(self.read(name)), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            found = np.zeros(0, np.uint8)
        if found.dtype.kind != "f" or found.ndim != 3 or len(found) % 2:
            raise InputError(
                f"{self.path}: {name}: expected an array of means and standard deviations, "
                f"(2C, H, W), found {found.dtype} {found.shape}."
            )
        return torch.from_numpy(found.astype(np.float32).reshape(2, -1, *found.shape[1:]))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_open": None}


class LatentDraws:
    """Latents drawn anew from their posteriors in every epoch.

    Args:
        archive: Where they are.
        names: Their entries.
        labels: Label of each.
        seed: Seed of the draws; None takes the means.
    """

    def __init__(
        self, archive: LatentArchive, names: Sequence[str], labels: Sequence[int], seed: int | None
    ) -> None:
        self.archive, self.names, self.labels, self.seed = archive, names, labels, seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        mean, std = self.archive.array(self.names[index])
        if self.seed is not None:
            # A function of sample and epoch, so that neither workers nor a resumed run change it.
            generator = seeded(self.seed, epoch, 2, index)
            mean = mean + std * torch.randn(std.shape, generator=generator)
        return {"image": standardized(mean), "label": torch.tensor(self.labels[index])}


class LatentFilesDataModule(ImageDataModule):
    """Latents of class-labelled pictures, for EDM2's models of 512 x 512 images.

    ``dataset.json`` names the label of every array, which holds the mean and the standard deviation
    of Stable Diffusion's posterior (8, 64, 64): the ``img512-sd.zip`` that EDM2's own
    ``dataset_tool.py encode`` writes. Batches are ``{"image": latents (B, 4, 64, 64) of standard
    deviation 0.5, "label": (B,)}``, drawn from the posteriors as EDM2 does.

    Args:
        path: The zip, or a folder with the same files.
        heldout: Fraction of the latents to hold out; it is never drawn from.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the draws.
        num_workers: Processes that read files.
    """

    def __init__(
        self,
        path: str,
        heldout: float = 0.01,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
        num_workers: int = 2,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed, num_workers)
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.path = Path(path)
        self.heldout = heldout
        self.archive = LatentArchive(self.path)

    @cached_property
    def _labels(self) -> dict[str, int]:
        """Labels by name of the array."""
        if not self.path.is_dir():
            require_file(self.path)
        content = self.archive.read(INDEX)
        try:
            pairs = parse_json(content)["labels"]
            found = {str(name): operator.index(label) for name, label in pairs}
        except InputError as error:
            raise InputError(f"{self.path}: {INDEX}: {error}") from None
        except (ValueError, KeyError, TypeError):
            found = {}
        if not found or not 0 <= min(found.values()) <= max(found.values()) < MOST_CLASSES:
            raise InputError(
                f"{self.path}: {INDEX}: expected labels as pairs of a file and a class, from 0 on."
            )
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return tuple(self.archive.array(next(iter(self._labels))).shape[1:])

    @property
    def class_names(self) -> list[str]:
        return [str(label) for label in range(max(self._labels.values()) + 1)]

    def read(self) -> Splits:
        names, labels = list(self._labels), list(self._labels.values())
        training, held = stratified_split(np.array(labels), self.heldout, self.class_names)

        def samples(index: Any, seed: int | None) -> LatentDraws:
            chosen = index.tolist()
            return LatentDraws(
                self.archive, [names[i] for i in chosen], [labels[i] for i in chosen], seed
            )

        return Splits(
            samples(training, self.seed), samples(held, None), reference=samples(training, None)
        )
