"""Each kind of block gives what the original's block gives: EDM 008a4e5, EDM2 4bf8162."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdlight.networks.images.edm.block import UNetBlock
from kdlight.networks.images.edm.edm2 import EDM2Block
from tests.networks.edm.recipe import check, filled

SONG = {"skip_scale": 0.5**0.5, "eps": 1e-6, "project_skip": True}
ADM = {"scale_shift": True}
# Block, channels in and out, settings; sum, sum of magnitudes, three numbers and the last; norm of
# the gradient of the mean square.
BLOCKS: dict[str, tuple[type[nn.Module], int, int, dict[str, Any], Any, float]] = {
    "song": (
        *(UNetBlock, 32, 64, SONG | {"heads": 1}),
        (-263.660954, 4205.18786, (-0.0387270, -0.0554636, -0.6141233, -0.5637054)),
        0.01310097,
    ),
    "song_down": (
        *(UNetBlock, 32, 32, SONG | {"resample": "down", "taps": (1, 3, 3, 1)}),
        (-6.46523385, 337.931151, (-0.2565175, -0.1771536, -0.0900392, 0.2008281)),
        0.008718926,
    ),
    "song_up": (
        *(UNetBlock, 64, 32, SONG | {"resample": "up"}),
        (28.3024506, 10467.4245, (-0.8328214, -0.8281137, -0.3719237, -0.3748327)),
        0.02121638,
    ),
    "adm": (
        *(UNetBlock, 64, 128, ADM | {"heads": 2}),
        (-862.350028, 18875.9338, (-0.4840204, 0.2404181, -0.9655625, 1.2990347)),
        0.04549363,
    ),
    "adm_down": (
        *(UNetBlock, 64, 64, ADM | {"resample": "down"}),
        (-57.3488449, 1656.81676, (0.5219710, 0.2935386, 0.3596718, 1.0110369)),
        0.06498235,
    ),
    "adm_up": (
        *(UNetBlock, 64, 64, ADM | {"resample": "up"}),
        (-1560.81961, 37340.4458, (-0.0399231, -0.2531058, 0.2834546, 0.2818004)),
        0.04586839,
    ),
    "edm2_encoder": (
        *(EDM2Block, 32, 64, {"encodes": True, "attends": True}),
        (-72.9030521, 5989.78772, (0.9092807, 0.3567298, -0.6619177, 0.3843735)),
        0.01342672,
    ),
    "edm2_down": (
        *(EDM2Block, 64, 64, {"encodes": True, "resample": "down"}),
        (18.7941259, 1597.36873, (-0.9046882, 0.2256461, -1.2231810, 0.3095899)),
        0.02072435,
    ),
    "edm2_decoder": (
        *(EDM2Block, 128, 64, {"encodes": False, "attends": True}),
        (-177.8887, 5915.96862, (2.1581037, -1.1603156, 0.0388201, -0.7340621)),
        0.02395019,
    ),
    "edm2_up": (
        *(EDM2Block, 64, 64, {"encodes": False, "resample": "up"}),
        (115.841711, 26173.5253, (0.0831978, -0.2580564, -0.3691297, 0.1780565)),
        0.02614278,
    ),
}


def seeded(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((2, *shape))).float()


@pytest.mark.parametrize("name", BLOCKS)
def test_original_outputs_and_gradients(name: str) -> None:
    kind, channels, out, settings, (total, absolute, values), gradient = BLOCKS[name]
    block = filled(kind(channels, out, 16, **settings))
    x = seeded(0, channels, 8, 8).requires_grad_()
    output = block(x, seeded(1, 16))
    check(output, total, absolute, values)
    output.square().mean().backward()
    assert x.grad is not None
    assert float(x.grad.norm()) == pytest.approx(gradient, rel=1e-5)
