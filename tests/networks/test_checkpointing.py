"""Recomputed activations give the gradient that kept ones give, dropout included."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.errors import InputError
from kdlight.networks.checkpointing import RecomputedBlock, checkpoint_activations
from kdlight.networks.images.dit import DiT
from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.networks.images.edm.song import SongUNet
from kdlight.networks.mlp import ScaleShiftMLP
from tests.networks.edm.recipe import SIGMA, filled, images

SMALL = {"channel_mult": (1, 2), "num_blocks": 1, "dropout": 0.5}


@pytest.mark.parametrize(
    "make",
    [
        lambda: SongUNet(4, 1, model_channels=16, attention=(2,), **SMALL),
        lambda: DhariwalUNet(4, 1, model_channels=16, heads=1, attention=(2,), **SMALL),
        lambda: EDM2UNet(4, 1, model_channels=64, attention=(), **SMALL),
        lambda: DiT(4, 1, width=8, depth=2, heads=2, dropout=0.5),
        lambda: ScaleShiftMLP((1, 4, 4), 8, 2, dropout=0.5),
    ],
    ids=["song", "adm", "edm2", "dit", "mlp"],
)
def test_gradients_are_the_same(make: Callable[[], nn.Module]) -> None:
    denoiser = EDMDenoiser(filled(make()).train())
    seen = []
    for block in denoiser.modules():
        if isinstance(block, RecomputedBlock):
            block.register_forward_hook(lambda *_: seen.append(1))

    def gradients() -> list[Tensor]:
        seen.clear()
        torch.manual_seed(0)
        denoiser.zero_grad()
        denoiser(images(1, 4, 4), SIGMA).square().mean().backward()
        return [weight.grad for weight in denoiser.parameters() if weight.grad is not None]

    kept, calls = gradients(), len(seen)
    checkpoint_activations(denoiser)
    recomputed = gradients()
    assert len(seen) == calls, "a judge sees each activation once"
    assert all(torch.equal(a, b) for a, b in zip(kept, recomputed, strict=True))


def test_a_network_of_other_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="checkpointing: expected a network .* found a Linear"):
        checkpoint_activations(nn.Linear(2, 2))
