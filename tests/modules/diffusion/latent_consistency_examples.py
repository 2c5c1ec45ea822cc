"""What the tests of latent consistency share."""

import torch

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import TrailingGrid
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.training.optim import Optimization
from modules.diffusion.latent_consistency import LatentConsistency


def unet(**kwargs):
    torch.manual_seed(0)
    settings = {"size": 4, "channels": 1, "num_classes": 2, "block_out_channels": (8, 8), **kwargs}
    return UNet2DCondition(**settings)


def teacher(network=None, prediction="v_prediction"):
    denoiser = VPDenoiser(network or unet(), "scaled_linear", prediction)
    return Generator(denoiser, TrailingGrid("scaled_linear"), (1, 4, 4), "euler", (50,))


def method(**kwargs):
    settings = {"iterations": 3, "guidance_dim": 16, **kwargs}
    return LatentConsistency(settings.pop("teacher", None) or teacher(), Optimization(), **settings)


# Adapters ------------------------------------------------------------------------------------


def told():
    condition = {"label": torch.tensor([0, 1])}
    return torch.randn(2, 1, 4, 4), torch.tensor([5.0, 700.0]), condition
