"""Grids of samples as PNG, walks as GIF."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from kdlight.storage.atomic import atomic_folder, atomic_path
from kdlight.storage.pictures import to_bytes


def grid_image(samples: Tensor, columns: int = 10, smallest: int = 320) -> Image.Image:
    """Samples as one picture, tiny images enlarged without smoothing.

    Args:
        samples: Images (B, 1 or 3, H, W), [-1, 1] is black to white; or points (B, d), of which
            the first two coordinates are drawn as a scatter plot.
        columns: Images a row.
        smallest: The picture is at least about that wide, in pixels.
    """
    samples = samples.detach().float().cpu()
    if samples.ndim == 2:
        samples, columns = _scatter(samples), 1
    # Here, for torchvision brings torch's compiler along: a second of every verb's start.
    from torchvision.utils import make_grid

    pixels = make_grid(samples.clamp(-1, 1).add(1).div(2), nrow=columns, padding=1, pad_value=0.5)
    image = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
    factor = max(1, math.ceil(smallest / image.width))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _scatter(points: Tensor, size: int = 320) -> Tensor:
    """Points (B, d) as a picture (1, 1, size, size), density as darkness.

    Data lie in [-1, 1], which all pictures show alike; noise that reaches further widens them.
    """
    points = torch.nn.functional.pad(points, (0, 1))[:, :2]  # on a line, if they have one
    extent = max(1.0, float(points.abs().nan_to_num().quantile(0.995)) * 1.2)
    cell = ((points / extent + 1) / 2 * (size - 1)).round().long()
    inside = ((cell >= 0) & (cell < size)).all(dim=1)
    counts = torch.zeros(size * size)
    flat = (size - 1 - cell[inside, 1]) * size + cell[inside, 0]
    counts.index_add_(0, flat, torch.ones(len(flat)))
    return (1 - 2 * (counts / 2).clamp(max=1)).reshape(1, 1, size, size)


def save_grid(samples: Tensor, path: Path, columns: int = 10) -> None:
    """Write :func:`grid_image` as a PNG."""
    with atomic_path(path) as temporary:
        grid_image(samples, columns).save(temporary)


def save_each(samples: Tensor, folder: Path) -> None:
    """Write images (B, C, H, W) as PNGs ``000000.png`` and on; the folder is whole or not there."""
    with atomic_folder(folder, "000000.png") as work:
        for number, pixels in enumerate(to_bytes(samples.detach()).cpu()):
            picture = pixels.permute(1, 2, 0).numpy().squeeze()
            Image.fromarray(picture).save(work / f"{number:06d}.png")


def save_walk(states: Sequence[Tensor], path: Path, columns: int = 10) -> None:
    """Write the states of a walk as a GIF that rests on the last one."""
    frames = [grid_image(state, columns) for state in states]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary,
            save_all=True,
            append_images=frames[1:],
            duration=[150] * (len(frames) - 1) + [2000],
            loop=0,
        )
