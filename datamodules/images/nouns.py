"""Colour pictures of 32x32 pixels, composed of bundled pixel art."""

import json
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.images.base import ImageDataModule, Splits
from datamodules.loader import Batch
from kdlight.core.ranges import PositiveInt
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.known_parts import KnownParts

EDGE = 32
ASSETS = Path(str(files("kdlight"))) / "assets"


class Art:
    """The parts of ``kdlight/assets/nouns.png``: CC0 pixel art of the Nouns project.

    Attributes:
        classes: Names of the heads by class.
        heads: RGBA pixels of the heads, class after class, (H, 32, 32, 4) uint8.
        head_class: Class of every head, (H,).
        bodies: (B, 32, 32, 4).
        accessories: What is on the chest, (A, 32, 32, 4).
        glasses: (G, 32, 32, 4).
        backgrounds: Plain colours, (2, 3).
    """

    def __init__(self) -> None:
        table = json.loads((ASSETS / "nouns.json").read_text(encoding="utf-8"))
        with Image.open(ASSETS / "nouns.png") as sheet:
            pixels = np.asarray(sheet.convert("RGBA"))
        columns = table["columns"]
        tiles = pixels.reshape(-1, EDGE, columns, EDGE, 4).swapaxes(1, 2)
        rest = tiles.reshape(-1, EDGE, EDGE, 4)
        self.classes: dict[str, list[str]] = table["heads"]
        counts = [len(names) for names in self.classes.values()]
        self.head_class = np.repeat(np.arange(len(counts)), counts)
        sizes = [sum(counts), *(len(table[kind]) for kind in ("bodies", "accessories", "glasses"))]
        self.heads, self.bodies, self.accessories, self.glasses, _ = np.split(
            rest, np.cumsum(sizes)
        )
        self.backgrounds = np.array(
            [list(bytes.fromhex(colour)) for colour in table["backgrounds"]]
        )

    def compose(self, count: int, seed: int) -> Batch:
        """``count`` pictures as uint8 (count, 3, 32, 32), classes equal, every part at random."""
        draw = np.random.default_rng(seed)
        label = np.arange(count) % len(self.classes)
        first = np.searchsorted(self.head_class, label)
        behind = np.searchsorted(self.head_class, label, side="right")
        picture = self.backgrounds[draw.integers(len(self.backgrounds), size=count)]
        picture = np.broadcast_to(picture[:, None, None], (count, EDGE, EDGE, 3)).astype(np.uint8)
        for parts in (self.bodies, self.accessories):
            picture = _laid_on(picture, parts[draw.integers(len(parts), size=count)])
        picture = _laid_on(picture, self.heads[draw.integers(first, behind)])
        picture = _laid_on(picture, self.glasses[draw.integers(len(self.glasses), size=count)])
        image = torch.from_numpy(picture).permute(0, 3, 1, 2).contiguous()
        return {"image": image, "label": torch.from_numpy(label)}


def _laid_on(below: np.ndarray, part: np.ndarray) -> np.ndarray:
    """``part`` (N, H, W, 4) over ``below`` (N, H, W, 3); pixel art has no half transparency."""
    return np.where(part[..., 3:] > 0, part[..., :3], below)


class NounsDataModule(ImageDataModule):
    """Figures with one of 128 heads in 8 classes, composed of bundled parts: nothing to download.

    Each picture is a background (2), a body (30), something on the chest (40), a head (128 in 8
    classes) and glasses (23), put together by rule: 7 million pictures. Aligned pixel art on plain
    ground, not photographs. The art is CC0 (``kdlight/assets/README.md``).

    Training and held-out compositions are drawn from fixed seeds, so runs over seeds are
    comparable.

    Args:
        compositions: Training pictures; 3 kB of memory each.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: ``compositions`` is not positive.
    """

    def __init__(
        self,
        compositions: PositiveInt = 20_000,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        self.compositions = compositions

    @cached_property
    def art(self) -> Art:
        """The parts, read once."""
        return Art()

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, EDGE, EDGE)

    @property
    def class_names(self) -> list[str]:
        return list(self.art.classes)

    def read(self) -> Splits:
        training = self.art.compose(self.compositions, seed=1)
        return Splits(training, self.art.compose(2000, seed=2), reference=training)

    def judges(self) -> list[SampleMetric]:
        """How many samples show one of the heads as it was drawn, and how many heads are seen."""
        return [known_heads(self.art)]


def known_heads(art: Art) -> KnownParts:
    """The judge of heads: their pixels and the ring around them, outside of all glasses.

    The ring belongs to the ground, so a halo or a second head shining through counts.
    """
    free = torch.from_numpy((art.glasses[..., 3] == 0).all(axis=0))
    opaque = torch.from_numpy(art.heads[..., 3] > 0)
    wider = (
        torch.nn.functional.max_pool2d(opaque[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    )
    # The ring ends where the body begins: below, it would show a body of unknown colour.
    body = torch.from_numpy((art.bodies[..., 3] > 0).any(axis=0))
    masks = free & (opaque | (wider & ~body))
    colours = torch.from_numpy(art.heads[..., :3])
    variants = torch.stack(
        [
            torch.where(opaque[..., None], colours, torch.from_numpy(ground).to(torch.uint8))
            for ground in art.backgrounds
        ],
        dim=1,
    )
    return KnownParts(_signed(variants), masks)


def _signed(colours: Tensor) -> Tensor:
    """uint8 (..., H, W, C) as float32 (..., C, H, W) in [-1, 1]."""
    return colours.movedim(-1, -3).float() / 127.5 - 1
