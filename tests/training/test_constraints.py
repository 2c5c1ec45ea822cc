"""Constrained weights are brought back after every update, before the average sees them."""

from unittest.mock import patch

import torch

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.networks.images.edm.magnitude import MPConv
from kdlight.training.optim import Optimization
from modules.diffusion.diffusion_training import DiffusionTraining
from tests.exactness.harness import TinyImages, fit


def test_weights_keep_their_magnitude() -> None:
    torch.manual_seed(0)
    network = EDM2UNet(4, 1, 2, model_channels=64, channel_mult=(1,), num_blocks=1, attention=())
    module = DiffusionTraining(
        EDMDenoiser(network), [1, 4, 4], Optimization(lr=0.1), iterations=4, accumulate=2
    )
    layers = [part for part in network.modules() if isinstance(part, MPConv)]
    before = [layer.weight.clone() for layer in layers]
    with patch.object(MPConv, "constrain", autospec=True, side_effect=MPConv.constrain) as called:
        fit(module, TinyImages())
    assert called.call_count == 2 * len(layers)
    for layer, old in zip(layers, before, strict=True):
        rows = layer.weight.detach().flatten(1).square().mean(dim=1).sqrt()
        torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0, atol=1e-3)
        assert not torch.equal(layer.weight, old)
