"""A folder of pictures, with classes by sub-folder or by a table, or without."""

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
from datamodules.images.labels import read_labels, sorted_classes
from datamodules.loader import Batch
from datamodules.order import seeded
from kdlight.errors import InputError
from kdlight.storage.pictures import (
    SUFFIXES,
    check_depth,
    find_pictures,
    largest_value,
    open_picture,
    reason,
    to_float,
)

NAMED = 5
"""How many files that are left out a warning names for each reason."""


class PictureSamples:
    """Pictures read one by one, from files or from resized copies in memory.

    Args:
        sources: Files, or what :meth:`Framing.scale` made of them.
        labels: Label of each.
        framing: Size, crop and flip.
        seed: Seed of the augmentation; None for none.
        bit_depth: See :func:`~kdlight.storage.pictures.open_picture`.
    """

    def __init__(
        self,
        sources: Sequence[Path | Tensor],
        labels: Sequence[int],
        framing: Framing,
        seed: int | None,
        bit_depth: int = 16,
    ) -> None:
        self.sources = sources
        self.labels = labels
        self.framing = framing
        self.seed = seed
        self.bit_depth = bit_depth

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        source = self.sources[index]
        if isinstance(source, Path):
            source = self.framing.scale(open_picture(source, self.framing.channels, self.bit_depth))
        generator = None if self.seed is None else seeded(self.seed, epoch, 2, index)
        image = to_float(self.framing.cut(source, generator))
        return {"image": image, "label": torch.tensor(self.labels[index])}


class ImageFolderDataModule(ImageDataModule):
    """Pictures in class folders, ``data_dir/cat/1.png``; a class is named after its folder.

    A folder of pictures without sub-folders has no classes. ``labels`` names the classes in a table
    instead, wherever the pictures lie.

    Grey, palette, transparent and 16-bit pictures are converted
    (:func:`~kdlight.storage.pictures.open_picture`), linked folders followed. Files that cannot be
    decoded are left out and named with the reason in one warning. The held-out part is fixed and
    has every class in proportion.

    Args:
        data_dir: The folder that holds the class folders, or the pictures.
        size: Height and width of the images, pixels; one number if square.
        channels: 1 for grey, 3 for RGB.
        resize: Resize to cover a frame with this short side before the crop; ``size`` if None.
        crop: Cut training images from the centre, or anywhere.
        flip: Mirror half of the training images left to right.
        heldout: Fraction of the images to hold out.
        cache: Keep all images in memory, as bytes.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the augmentation.
        num_workers: Processes that read files; not needed with ``cache``.
        bit_depth: Bits that grey pictures of more than 8 bits use; None expects 16, and refuses
            pictures whose largest value says otherwise.
        unconditional: Take the pictures of all sub-folders as one set without classes.
        labels: A ``.csv`` or ``.jsonl`` file with the label of every picture; None for classes by
            folder. Pictures that it does not name are left out, in one warning.
        file_column: Its column of file names, relative to ``data_dir``.
        label_column: Its column of labels.
    """

    def __init__(
        self,
        data_dir: str,
        size: int | list[int],
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
        bit_depth: int | None = None,
        unconditional: bool = False,
        labels: str | None = None,
        file_column: str = "file_name",
        label_column: str = "label",
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed, num_workers)
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        if bit_depth is not None and not 1 <= bit_depth <= 32:
            raise InputError(f"bit_depth: expected 1 to 32 bits, found {bit_depth}.")
        if labels is not None and unconditional:
            raise InputError("labels: expected null beside unconditional: true.")
        self.data_dir = Path(data_dir)
        self.labels = None if labels is None else Path(labels)
        self.columns = file_column, label_column
        self.bit_depth = bit_depth
        self.unconditional = unconditional
        self.framing = Framing(size, channels, resize, crop, flip)
        self.flip = flip
        self.heldout = heldout
        self.cache = cache

    @property
    def shape(self) -> tuple[int, ...]:
        return self.framing.shape

    @cached_property
    def class_names(self) -> list[str]:
        if not self.data_dir.is_dir():
            raise InputError(f"{self.data_dir}: no such folder.")
        if self.unconditional:
            return []
        if self.labels is not None:
            return sorted_classes(self._table)
        names = sorted(
            path.name
            for path in self.data_dir.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
        if not names and not find_pictures(self.data_dir):
            raise InputError(
                f"{self.data_dir}: expected pictures, or one folder per class with pictures in "
                "it, found neither."
            )
        loose = [
            path
            for path in self.data_dir.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
        if names and loose:
            raise InputError(
                f"{self.data_dir}: expected pictures in class folders alone, found {len(loose)} "
                f"beside the {len(names)} folders ({self._named(sorted(loose))}); "
                f"unconditional: true takes all as one set without classes."
            )
        return names

    @cached_property
    def _table(self) -> dict[str, str]:
        """Labels by file name, of a table."""
        assert self.labels is not None
        return read_labels(self.labels, *self.columns)

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
        broken: dict[str, list[Path]] = {}
        sources: list[Path | Tensor] = []
        kept: list[int] = []
        values: list[int] = []
        for path, label, (source, value) in zip(paths, labels, found, strict=True):
            if isinstance(source, str):
                broken.setdefault(source, []).append(path)
                continue
            sources.append(source)
            kept.append(label)
            values += [] if value is None else [value]
        count = len(paths) - len(sources)
        if not sources:
            raise InputError(
                f"{self.data_dir}: expected pictures, found none that can "
                f"be read and {count} that cannot{self._reasons(broken)}."
            )
        if broken:
            rank_zero_warn(
                f"{self.data_dir}: {count} of {len(paths)} pictures cannot be read and are "
                f"left out{self._reasons(broken)}"
            )
        if values:
            check_depth(max(values), len(values), self.bit_depth, str(self.data_dir))
        return self._split(sources, kept)

    def _find(self) -> tuple[list[Path], list[int]]:
        """The pictures and their labels."""
        if self.labels is not None:
            return self._find_named()
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.class_names or ["."]):
            found = find_pictures(self.data_dir / name)
            paths += found
            labels += [label] * len(found)
        return paths, labels

    def _find_named(self) -> tuple[list[Path], list[int]]:
        names = self.class_names
        paths = [self.data_dir / name for name in self._table]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"{self.labels}: expected files in {self.data_dir}, found {len(missing)} of "
                f"{len(paths)} missing ({self._named(missing)})."
            )
        known = set(paths)
        others = [path for path in find_pictures(self.data_dir) if path not in known]
        if others:
            rank_zero_warn(
                f"{self.data_dir}: {len(others)} pictures have no label in {self.labels} and are "
                f"left out: {self._named(others)}"
            )
        return paths, [names.index(label) for label in self._table.values()]

    def _named(self, paths: Sequence[Path]) -> str:
        """The first few files of a list."""
        names = ", ".join(os.path.relpath(path, self.data_dir) for path in paths[:NAMED])
        return f"{names}{', ...' if len(paths) > NAMED else ''}"

    def _reasons(self, broken: dict[str, list[Path]]) -> str:
        """Files that are left out, by reason."""
        texts = [f"{len(paths)} {why}: {self._named(paths)}" for why, paths in broken.items()]
        return f" ({'; '.join(texts)})" if texts else ""

    def _probe(self, path: Path) -> tuple[Path | Tensor | str, int | None]:
        """The source of a picture, or why it has none; and its :func:`largest_value`."""
        try:
            value = largest_value(path)
            if not self.cache:
                return path, value
            picture = open_picture(path, self.framing.channels, self.bit_depth or 16)
            return self.framing.scale(picture), value
        except Exception as error:  # a broken file can raise nearly anything in a decoder
            return reason(error), None

    def _split(self, sources: list[Path | Tensor], labels: list[int]) -> Splits:
        names = self.class_names or [self.data_dir.name]
        if self.cache and self.framing.crop == "center":
            squares = [self.framing.cut(source) for source in sources if isinstance(source, Tensor)]
            label = torch.tensor(labels)
            return split_tensors(torch.stack(squares), label, self.heldout, names)

        def samples(index: Sequence[int], seed: int | None) -> PictureSamples:
            chosen = [sources[i] for i in index], [labels[i] for i in index]
            return PictureSamples(*chosen, self.framing, seed, self.bit_depth or 16)

        parts = stratified_split(np.array(labels), self.heldout, names)
        training, held = (part.tolist() for part in parts)
        return Splits(
            training=samples(training, self.seed),
            heldout=samples(held, None),
            reference=samples(training, None),
        )
