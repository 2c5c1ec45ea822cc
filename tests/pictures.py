"""Small colour pictures by rule, to try the recipes of one's own pictures without any.

    python -m tests.pictures FOLDER [COUNT]

writes ``FOLDER/disc/0000.png`` and so on: a filled disc or square of a bright colour, somewhere on
a dark ground, 24x24 pixels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ("disc", "square")
SIDE = 24


def draw(shape: str, source: np.random.Generator) -> Image.Image:
    """One picture of a shape."""
    ground, colour = source.integers(0, 90, 3), source.integers(130, 256, 3)
    radius = source.uniform(4, 7)
    centre = source.uniform(radius + 1, SIDE - radius - 1, 2)
    # Four times finer and then smaller, so that edges are smooth.
    fine = (np.arange(4 * SIDE) + 0.5) / 4
    down, right = np.abs(fine[:, None] - centre[0]), np.abs(fine[None] - centre[1])
    distance = np.hypot(down, right) if shape == "disc" else np.maximum(down, right)
    inside = (distance < radius).reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))[..., None]
    pixels = inside * colour + (1 - inside) * ground
    return Image.fromarray(pixels.round().astype(np.uint8))


def write(folder: Path, count: int = 600) -> None:
    """Write ``count`` pictures, the shapes in turn, each into the folder of its shape."""
    source = np.random.default_rng(0)
    for index in range(count):
        shape = SHAPES[index % len(SHAPES)]
        (folder / shape).mkdir(parents=True, exist_ok=True)
        draw(shape, source).save(folder / shape / f"{index:04d}.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
