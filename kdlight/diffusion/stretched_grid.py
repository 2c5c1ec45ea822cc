"""A grid of flow times that ends where its network was trained to end."""

import torch
from torch import Tensor

from kdlight.core.ranges import Probability
from kdlight.diffusion.sigmas import Grid


class StretchedGrid(Grid):
    """The levels of a grid, stretched so that the last flow time before 0 is a given one.

    ``1 - t`` of every level ``sigma = t / (1 - t)`` is multiplied by one number: the
    ``shift_terminal`` of schedulers of diffusers, as Qwen-Image has it. A walk of one step has no
    time to stretch.

    Args:
        base: The grid.
        terminal: Last time before 0.
    """

    def __init__(self, base: Grid, terminal: Probability) -> None:
        self.base, self.terminal = base, terminal

    def sigmas(self, steps: int) -> Tensor:
        levels = self.base.sigmas(steps)
        if steps == 1:
            return levels
        rest = 1 / (1 + levels[:-1])
        rest = rest * (1 - self.terminal) / rest[-1]
        stretched = (1 / rest - 1).clamp(max=float(levels[0]))
        return torch.cat([stretched, levels[-1:]])
