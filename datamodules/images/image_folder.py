"""A folder of pictures with one sub-folder per class."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.images.base import ImageDataModule, Splits, split_tensors, stratified_split
from datamodules.images.framing import Framing
from datamodules.loader import Batch
from datamodules.order import seeded
from kdlight.errors import InputError
from kdlight.storage.pictures import find_pictures, is_picture, open_picture, to_float

NAMED = 10
"""How many broken files a warning names."""


class PictureSamples:
    """Pictures read one by one, from files or from resized copies in memory.

    Args:
        sources: Files, or what :meth:`Framing.scale` made of them.
        labels: Label of each.
        framing: Size, crop and flip.
        seed: Seed of the augmentation; None for none.
    """

    def __init__(
        self,
        sources: Sequence[Path | Tensor],
        labels: Sequence[int],
        framing: Framing,
        seed: int | None,
    ) -> None:
        self.sources = sources
        self.labels = labels
        self.framing = framing
        self.seed = seed

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        source = self.sources[index]
        if isinstance(source, Path):
            source = self.framing.scale(open_picture(source, self.framing.channels))
        generator = None if self.seed is None else seeded(self.seed, epoch, 2, index)
        image = to_float(self.framing.cut(source, generator))
        return {"image": image, "label": torch.tensor(self.labels[index])}


class ImageFolderDataModule(ImageDataModule):
    """Pictures in class folders, ``data_dir/cat/1.png``; a class is named after its folder.

    Grey, palette, transparent and 16-bit pictures are converted
    (:func:`~kdlight.storage.pictures.open_picture`). Files that cannot be decoded are left out and
    named once in a warning. The held-out part is fixed and has every class in proportion.

    Args:
        data_dir: The folder that holds the class folders.
        size: Side of the square images, pixels.
        channels: 1 for grey, 3 for RGB.
        resize: Resize the short side to this before the crop; ``size`` if None.
        crop: Cut training images from the centre, or anywhere.
        flip: Mirror half of the training images left to right.
        heldout: Fraction of the images to hold out.
        cache: Keep all images in memory, as bytes.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the augmentation.
        num_workers: Processes that read files; not needed with ``cache``.
    """

    def __init__(
        self,
        data_dir: str,
        size: int,
        channels: Literal[1, 3] = 3,
        resize: int | None = None,
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
        heldout: float = 0.1,
        cache: bool = False,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
        num_workers: int = 2,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed, num_workers)
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.data_dir = Path(data_dir)
        self.framing = Framing(size, channels, resize, crop, flip)
        self.flip = flip
        self.heldout = heldout
        self.cache = cache

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.framing.channels, self.framing.size, self.framing.size)

    @cached_property
    def class_names(self) -> list[str]:
        if not self.data_dir.is_dir():
            raise InputError(f"{self.data_dir}: no such folder.")
        names = sorted(
            path.name
            for path in self.data_dir.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
        if not names:
            raise InputError(
                f"{self.data_dir}: expected one folder per class with pictures in it, "
                "found no folder."
            )
        return names

    def read(self) -> Splits:
        paths, labels = self._find()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(
                tqdm(  # a bar only if it takes longer than two seconds
                    pool.map(self._probe, paths),
                    desc=f"Checking {self.data_dir}",
                    total=len(paths),
                    delay=2,
                    disable=self.ranks[0] != 0,
                    leave=False,
                )
            )
        broken = [path for path, source in zip(paths, found, strict=True) if source is None]
        labels = [label for label, source in zip(labels, found, strict=True) if source is not None]
        sources = [source for source in found if source is not None]
        if not sources:
            raise InputError(
                f"{self.data_dir}: expected pictures in its class folders, found none that can "
                f"be read and {len(broken)} that cannot."
            )
        if broken:
            names = ", ".join(str(path.relative_to(self.data_dir)) for path in broken[:NAMED])
            more = ", ..." if len(broken) > NAMED else ""
            rank_zero_warn(
                f"{self.data_dir}: {len(broken)} of {len(paths)} pictures cannot be read and are "
                f"left out: {names}{more}"
            )
        return self._split(sources, labels)

    def _find(self) -> tuple[list[Path], list[int]]:
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.class_names):
            found = find_pictures(self.data_dir / name)
            paths += found
            labels += [label] * len(found)
        return paths, labels

    def _probe(self, path: Path) -> Path | Tensor | None:
        if not self.cache:
            return path if is_picture(path) else None
        try:
            return self.framing.scale(open_picture(path, self.framing.channels))
        except Exception:  # a broken file can raise nearly anything in a decoder
            return None

    def _split(self, sources: list[Path | Tensor], labels: list[int]) -> Splits:
        if self.cache and self.framing.crop == "center":
            squares = [self.framing.cut(source) for source in sources if isinstance(source, Tensor)]
            label = torch.tensor(labels)
            return split_tensors(torch.stack(squares), label, self.heldout, self.class_names)

        def samples(index: Sequence[int], seed: int | None) -> PictureSamples:
            chosen = [sources[i] for i in index], [labels[i] for i in index]
            return PictureSamples(*chosen, self.framing, seed)

        parts = stratified_split(np.array(labels), self.heldout, self.class_names)
        training, held = (part.tolist() for part in parts)
        return Splits(
            training=samples(training, self.seed),
            heldout=samples(held, None),
            reference=samples(training, None),
        )
