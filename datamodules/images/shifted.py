"""Images of another look, beside letters and textures: a stand-in for what the web gives."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.unlabelled import NONE
from datamodules.images.views import WrappedDataModule, labels_of
from datamodules.loader import Batch, Data, take
from kdlight.core.ranges import NonNegativeInt

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

LETTERS = "ACEFGHJKMNPRTUVWXY"
"""Capitals that are no digit in some font."""
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
LOOKS = ("inverted", "faded", "blurred", "turned", "smaller")


class ShiftedDataModule(WrappedDataModule):
    """Trains on images that have changed their look, and on some of no class.

    A stand-in for images off the web where the data that a teacher learnt from are gone. Every
    training image is inverted, faded, blurred, turned or made smaller and keeps its label;
    ``letters`` are drawn with the fonts that come with matplotlib, ``textures`` are smoothed noise,
    and both have the label -1. All are fixed, whatever the seed. Held-out images stay as they are.

    Args:
        data: The images.
        letters: Number of letters.
        textures: Number of textures.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        data: ImageDataModule,
        letters: NonNegativeInt = 1000,
        textures: NonNegativeInt = 1000,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        self.letters, self.textures = letters, textures

    def read(self) -> Splits:
        splits = self.data.splits
        sizes = (self.shape, self.letters, self.textures)
        training = ShiftedImages(splits.training, *sizes).whole()
        if splits.reference is splits.training:
            return Splits(training, splits.heldout, training)
        return Splits(training, splits.heldout, ShiftedImages(splits.reference, *sizes).whole())


class ShiftedImages:
    """Samples of :class:`ShiftedDataModule`, made when they are asked for.

    Args:
        data: The images.
        shape: Theirs, (C, H, W).
        letters: Number of letters behind them.
        textures: Number of textures behind those.
    """

    def __init__(self, data: Data, shape: Sequence[int], letters: int, textures: int) -> None:
        self.data, self.shape, self.number = data, tuple(shape), letters
        own = labels_of(data).tolist()
        self.known = len(own)
        self.labels = own + [NONE] * (letters + textures)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        if index >= self.known + self.number:
            image = texture(self.shape, index)
        elif index >= self.known:
            image = letter(self.shape, index)
        elif isinstance(self.data, dict):
            rows = take({"image": self.data["image"]}, torch.tensor([index]))
            image = changed(rows["image"][0], index)
        else:
            image = changed(self.data[index, epoch]["image"], index)
        return {"image": image, "label": torch.tensor(self.labels[index])}

    def whole(self) -> Data:
        """All of them in memory, if the images are."""
        if not isinstance(self.data, dict):
            return self
        image = torch.stack([self[index, 0]["image"] for index in range(len(self))])
        return {"image": image, "label": torch.tensor(self.labels)}


def changed(image: Tensor, index: int) -> Tensor:
    """An image (C, H, W) in [-1, 1] with another look, which its index decides."""
    source = np.random.default_rng(index)
    look = LOOKS[index % len(LOOKS)]
    if look == "inverted":
        return -image
    if look == "faded":
        return image * source.uniform(0.3, 0.6) + source.uniform(-0.3, 0.3)
    if look == "blurred":
        return F.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    angle = source.uniform(0.4, 0.7) * source.choice([-1, 1]) if look == "turned" else 0.0
    scale = source.uniform(1.3, 1.6) if look == "smaller" else 1.0
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = torch.tensor([[[cosine, -sine, 0], [sine, cosine, 0]]], dtype=image.dtype)
    grid = F.affine_grid(matrix, [1, *image.shape], align_corners=False)
    # What comes from outside is as dark as the edge of the image.
    return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def letter(shape: tuple[int, ...], index: int) -> Tensor:
    """A letter in bright ink on a dark ground, (C, H, W) in [-1, 1]."""
    from PIL import Image, ImageDraw

    source = np.random.default_rng(index)
    channels, height, width = shape
    edge = 4 * min(height, width)
    picture = Image.new("L", (4 * width, 4 * height))
    down, right = source.integers(-2, 3, size=2).tolist()
    place = (2.0 * width + right, 2.0 * height + down)
    font = font_of(str(source.choice(FONTS)), int(edge * source.uniform(0.7, 0.95)))
    ImageDraw.Draw(picture).text(
        place, str(source.choice(list(LETTERS))), fill=255, font=font, anchor="mm"
    )
    small = np.asarray(picture.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    return torch.from_numpy(small / 127.5 - 1).expand(channels, -1, -1).clone()


@lru_cache
def font_of(name: str, size: int) -> "FreeTypeFont":
    """A font of matplotlib at a size in pixels."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size)


def texture(shape: tuple[int, ...], index: int) -> Tensor:
    """Noise of some coarseness, (C, H, W) in [-1, 1]."""
    source = torch.Generator().manual_seed(index)
    cells = 2 + index % 5
    coarse = torch.rand(1, shape[0], cells, cells, generator=source) * 2 - 1
    return F.interpolate(coarse, shape[1:], mode="bilinear", align_corners=True)[0].clamp(-1, 1)
