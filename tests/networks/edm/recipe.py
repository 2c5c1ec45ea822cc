"""Weights and inputs drawn by a stated rule, on which the original networks were run once.

The rule does not depend on a network's initialisation nor on the order of its weights: every
entry is drawn from numpy's default generator seeded with the CRC-32 of its published name.
"""

import math
import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

SIGMA = torch.tensor([0.5, 3.0])
NOISE = SIGMA.log() / 4
LABEL = torch.tensor([1, 7])


def drawn(name: str, shape: Sequence[int]) -> Tensor:
    """The entry called ``name`` of a network's state."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if len(shape) > 1:
        values = values / math.sqrt(math.prod(shape[1:]))
    elif name.endswith("gain"):
        values = 0.5 + 0.1 * values
    elif name.endswith("bias"):
        values = 0.1 * values
    elif not name.endswith(("freqs", "phases")):
        values = 1 + 0.1 * values  # the weight of a normalisation
    return torch.from_numpy(np.asarray(values)).float()


def filled(network: Network) -> Network:
    """``network`` with the weights of the rule, in evaluation mode."""
    network.load_state_dict(
        {name: drawn(name, value.shape) for name, value in network.state_dict().items()}
    )
    return network.eval()


def images(channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
    values = np.random.default_rng(0).standard_normal((2, channels, height, width))
    return torch.from_numpy(values).float()


def augment() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((2, 9))).float()


def check(output: Tensor, total: float, absolute: float, values: Sequence[float]) -> None:
    """Compare with the sum, the sum of magnitudes, three numbers and maybe the last."""
    flat = output.detach().flatten().double()
    # Six digits were kept of each sum.
    assert math.isclose(flat.sum(), total, rel_tol=5e-6, abs_tol=1e-3)
    assert math.isclose(flat.abs().sum(), absolute, rel_tol=1e-5)
    found = torch.cat([flat[:3], flat[-1:]])[: len(values)]
    torch.testing.assert_close(found, torch.tensor(values).double(), rtol=0, atol=1e-5)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
