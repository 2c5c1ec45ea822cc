"""The published U-Nets in lower precision, and their derivatives in forward mode."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.networks.images.edm.song import SongUNet
from tests.networks.edm.recipe import LABEL, NOISE, filled, images

SHAPE = {"size": 16, "channels": 3, "num_classes": 10, "channel_mult": (1, 2), "num_blocks": 1}
MAKES = {
    "song": lambda: SongUNet(**SHAPE, model_channels=32, attention=(8,)),
    "dhariwal": lambda: DhariwalUNet(**SHAPE, model_channels=64, attention=(8,)),
    "edm2": lambda: EDM2UNet(**SHAPE, model_channels=64, attention=(8,)),
}
CONDITION = {"label": LABEL}


@pytest.mark.parametrize("name", MAKES)
def test_lower_precision(name: str) -> None:
    network = filled(MAKES[name]())
    output = network(images(), NOISE, CONDITION)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(images(), NOISE, CONDITION)
    mixed.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    low = network.bfloat16()(images().bfloat16(), NOISE, CONDITION)
    assert low.dtype == torch.bfloat16
    for found in (mixed, low):
        assert (found.float() - output).std() < 0.05 * output.std()


@pytest.mark.parametrize("name", MAKES)
@torch.no_grad()
def test_forward_mode(name: str) -> None:
    network = filled(MAKES[name]())
    x, direction, step = images(), images().flip(3), 1e-2
    with sdpa_kernel(SDPBackend.MATH):
        _, change = torch.func.jvp(lambda x: network(x, NOISE, CONDITION), (x,), (direction,))
        ahead, behind = (network(x + s * direction, NOISE, CONDITION) for s in (step, -step))
    torch.testing.assert_close(change, (ahead - behind) / (2 * step), rtol=0.02, atol=0.01)
