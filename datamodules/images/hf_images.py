"""Images of the Hugging Face hub, or of a local data set in one of its formats."""

from collections.abc import Iterable
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import fsspec  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import torch

from datamodules.images.base import ImageDataModule, Splits, stratified_split
from datamodules.images.framing import Framing
from datamodules.images.streaming import Example, ShuffledStream, StreamPass
from datamodules.loader import Batch, EndlessLoader
from datamodules.order import seeded
from kdlight.errors import InputError
from kdlight.storage.pictures import open_declared, to_float

SAVED = ("dataset_dict.json", "state.json")
"""Files by which a folder of ``save_to_disk`` is known."""


_NO_LABEL = "label_column: expected labels from 0 on in {!r}, found {}."


def decode(
    example: Example,
    generator: torch.Generator | None,
    *,
    framing: Framing,
    image_column: str,
    label_column: str | None,
    bit_depth: int | None,
) -> Batch:
    """A sample from an example whose image is ``{"bytes": ..., "path": ...}``.

    Raises:
        InputError: The image cannot be decoded, or has more bits than are expected.
    """
    encoded = example[image_column]
    data, path = encoded["bytes"], encoded["path"]
    try:
        if data is None:  # pictures that are files of their own, here or, when streamed, remote
            with fsspec.open(path, "rb") as stream:
                data = stream.read()
        picture = open_declared(BytesIO(data), framing.channels, bit_depth)
    except InputError:
        raise
    except Exception:  # a broken picture can raise nearly anything in a decoder
        name = f" ({path})" if path else ""
        raise InputError(
            f"column {image_column!r}: expected images, found one that cannot be read{name}."
        ) from None
    batch = {"image": to_float(framing.cut(framing.scale(picture), generator))}
    if label_column is not None:
        label = example[label_column]
        if not isinstance(label, int) or label < 0:
            raise InputError(_NO_LABEL.format(label_column, label))
        batch["label"] = torch.tensor(label)
    return batch


class RowSamples:
    """Rows of a ``datasets.Dataset``, decoded one by one.

    Args:
        rows: The rows; their images not decoded.
        decode: As in :class:`~datamodules.images.streaming.ShuffledStream`.
        seed: Seed of the augmentation; None for none.
    """

    def __init__(self, rows: Any, decode: partial[Batch], seed: int | None) -> None:
        self.rows = rows
        self.decode = decode
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        generator = None if self.seed is None else seeded(self.seed, epoch, 2, index)
        return self.decode(self.rows[index], generator)


class HFImagesDataModule(ImageDataModule):
    """Images and labels from two columns of a data set that the ``datasets`` library can load.

    Needs the extra ``hub-data``. A streamed data set is never written to the disk; its order is
    shuffled in blocks and as exactly resumable as the others.

    Args:
        dataset: Name on the hub, or a local folder: pictures, Parquet files, or ``save_to_disk``.
        size: Height and width of the images, pixels; one number if square.
        split: The split to train on.
        heldout_split: The split to hold out; None holds out a fraction of ``split``.
        heldout: That fraction.
        subset: Name of the configuration, for data sets that have several.
        image_column: Column of the images.
        label_column: Column of the labels, of the ``ClassLabel`` type; None for no labels.
        streaming: Read examples as they come. Needs ``heldout_split``.
        buffer: Examples in a block that is shuffled, when streaming.
        channels: 1 for grey, 3 for RGB.
        resize: Resize to cover a frame with this short side before the crop; ``size`` if None.
        crop: Cut training images from the centre, or anywhere.
        flip: Mirror half of the training images left to right.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the augmentation.
        num_workers: Processes that decode; a stream is decoded in the main process.
        bit_depth: Bits that grey pictures of more than 8 bits use; None refuses them.
    """

    def __init__(
        self,
        dataset: str,
        size: int | list[int],
        split: str = "train",
        heldout_split: str | None = None,
        heldout: float = 0.1,
        subset: str | None = None,
        image_column: str = "image",
        label_column: str | None = "label",
        streaming: bool = False,
        buffer: int = 1000,
        channels: Literal[1, 3] = 3,
        resize: int | None = None,
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
        num_workers: int = 2,
        bit_depth: int | None = None,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed, num_workers)
        if streaming and heldout_split is None:
            raise InputError(
                "heldout_split: expected a split to hold out, because a stream cannot be split."
            )
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.dataset = dataset
        self.split = split
        self.heldout_split = heldout_split
        self.heldout = heldout
        self.subset = subset
        self.image_column = image_column
        self.label_column = label_column
        self.streaming = streaming
        self.buffer = buffer
        self.framing = Framing(size, channels, resize, crop, flip)
        self.decode = partial(
            decode,
            framing=self.framing,
            image_column=image_column,
            label_column=label_column,
            bit_depth=bit_depth,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.framing.shape

    @cached_property
    def class_names(self) -> list[str]:
        if self.label_column is None:
            return []
        names = getattr(self._training.features[self.label_column], "names", None)
        if names is None:
            raise InputError(
                f"label_column: expected a ClassLabel column, found {self.label_column!r} of type "
                f"{self._training.features[self.label_column]}."
            )
        return list(names)

    @cached_property
    def _training(self) -> Any:
        return self._load(self.split)

    @cached_property
    def _heldout(self) -> Any:
        return self._load(self.heldout_split or self.split)

    def _load(self, split: str) -> Any:
        """One split, its images as they are in the file."""
        try:
            import datasets
        except ImportError:
            raise InputError(
                "HFImagesDataModule needs the datasets library: pip install 'kdlight[hub-data]'."
            ) from None
        try:
            if any(Path(self.dataset, mark).is_file() for mark in SAVED):
                found = datasets.load_from_disk(self.dataset)
                if not isinstance(found, datasets.DatasetDict):  # one split, without a name
                    found = {self.split: found}
                data = found[split].to_iterable_dataset() if self.streaming else found[split]
            else:
                data = datasets.load_dataset(
                    self.dataset, self.subset, split=split, streaming=self.streaming
                )
        except Exception as error:  # missing, unreachable, no such split, odd files, ...
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise InputError(
                f"{self.dataset}: cannot load split {split!r} as a data set ({reason})."
            ) from None
        columns = data.features or {}
        for column in (self.image_column, self.label_column):
            if column is not None and column not in columns:
                raise InputError(
                    f"{self.dataset}: expected a column {column!r}, found {', '.join(columns)}."
                )
        if not isinstance(columns[self.image_column], datasets.Image):
            raise InputError(
                f"image_column: expected images in {self.image_column!r}, "
                f"found {columns[self.image_column]}."
            )
        return data.cast_column(self.image_column, datasets.Image(decode=False))

    def setup(self, stage: str | None = None) -> None:
        _ = self.class_names
        _ = self._heldout if self.streaming else self.splits

    def read(self) -> Splits:
        rows = self._training
        labels = self._labels(rows)
        if self.heldout_split is not None:
            training, held = rows, self._heldout
            self._labels(held)
        else:
            names = self.class_names or [self.dataset]
            parts = stratified_split(labels, self.heldout, names)
            training, held = (rows.select(part) for part in parts)
        return Splits(
            training=RowSamples(training, self.decode, self.seed),
            heldout=RowSamples(held, self.decode, None),
            reference=RowSamples(training, self.decode, None),
        )

    def _labels(self, rows: Any) -> npt.NDArray[np.int64]:
        """The labels of all rows; 0 where they have none by design."""
        found = list(rows[self.label_column]) if self.label_column else [0] * len(rows)
        wrong = [label for label in found if label is None or label < 0]
        if wrong:
            raise InputError(_NO_LABEL.format(self.label_column, wrong[0]))
        return np.array(found, dtype=np.int64)

    def make_train_loader(self) -> EndlessLoader:
        if not self.streaming:
            return super().make_train_loader()
        return ShuffledStream(
            self._training,
            self.decode,
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            *self.ranks,
            buffer=self.buffer,
        )

    def one_pass(self, part: Literal["reference", "heldout"]) -> Iterable[Batch]:
        if not self.streaming:
            return super().one_pass(part)
        rows = self._training if part == "reference" else self._heldout
        return StreamPass(rows, self.decode, self.batch_size)

    def heldout_dataloader(self) -> Iterable[Batch]:
        if not self.streaming:
            return super().heldout_dataloader()
        return StreamPass(self._heldout, self.decode, self.batch_size, *self.ranks)

    def reference_dataloader(self) -> Iterable[Batch]:
        if not self.streaming:
            return super().reference_dataloader()
        return StreamPass(self._training, self.decode, self.batch_size, *self.ranks)
