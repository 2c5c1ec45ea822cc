"""Weights that a name, a shape and a seed determine, so that tests need no files of weights."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def drawn(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Weights by name whose layers neither grow nor shrink what runs through them.

    Args:
        shapes: Of every weight, in the order in which they are drawn.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(*shape, generator=generator)
        if name.endswith("weight_g"):
            value = 0.75 + 0.05 * value
        elif name.endswith(("alpha", "beta", "scale", "norm1.weight", "norm2.weight")):
            value = 1 + 0.1 * value
        elif name.endswith(("cluster_usage", "cluster_size", "inited", "_initialized")):
            value = torch.ones(*shape)
        elif name.endswith("bias"):
            value = 0.1 * value
        elif name.endswith("weight") and "codebook" not in name:
            value = value / math.sqrt(math.prod(shape[1:]))
        weights[name] = value
    return weights


def sound(samples: int, seed: int = 1) -> Tensor:
    """Noise (2, 1, T) of two powers."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, 1, samples, generator=generator)
    return noise * torch.tensor([0.2, 0.6])[:, None, None]
