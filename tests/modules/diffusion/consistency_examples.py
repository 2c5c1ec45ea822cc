"""What the tests of consistency share."""

import math
from typing import Any

from torch import Tensor, nn

from kdlight.diffusion.denoisers import (
    ConsistencyDenoiser,
    Denoiser,
)
from kdlight.networks.mlp import ScaleShiftMLP


def network(**settings: Any) -> ScaleShiftMLP:
    made = ScaleShiftMLP((3,), 16, 1, embedding=8, **settings)
    # They start at zero; a test needs something to drop and to say.
    nn.init.normal_(made.blocks[0].down.weight, std=0.3)
    nn.init.normal_(made.output.weight, std=0.3)
    return made


def consistency(**settings: Any) -> ConsistencyDenoiser:
    return ConsistencyDenoiser(network(**settings), 0.5, 0.02, 20.0)


# Sampling ------------------------------------------------------------------------------------


class Exact(Denoiser):
    """The consistency function of N(0, 0.25): ends at level ``boundary``."""

    def __init__(self, boundary: float) -> None:
        super().__init__(0.01, 80.0)
        self.boundary = boundary

    def forward(self, x: Tensor, sigma: Tensor, condition: Any = None) -> Tensor:
        return x * math.sqrt((0.25 + self.boundary**2) / (0.25 + float(sigma) ** 2))
