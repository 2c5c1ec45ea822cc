"""What the tests of boot share."""

import torch
from torch import nn

from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.networks.mlp import ScaleShiftMLP

MEAN, STD = torch.tensor([0.3, -0.2], dtype=torch.float64), 0.5
SIGMA_MIN, SIGMA_MAX = 0.02, 20.0
GAUSSIAN = MixtureDenoiser([MEAN.tolist()], STD**2)
RING = MixtureDenoiser([[0.7, 0.0], [-0.35, 0.6], [-0.35, -0.6]], 0.02)


def draws(count, seed=0):
    """Noise and two noise levels, the upper one first."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    levels = torch.rand(2, count, generator=generator, dtype=torch.float64) * 6 - 4
    return noise, levels.amax(0).exp(), levels.amin(0).exp()


def along(x, sigma, sigma_next):
    """The flow of N(MEAN, STD^2): ``x - m`` is proportional to ``sqrt(s^2 + sigma^2)``."""
    return MEAN + (x - MEAN) * ((STD**2 + sigma_next**2) / (STD**2 + sigma**2)) ** 0.5


def exact_signal(noise, sigma):
    """Signal of the path that starts where the boundary loss has it start."""
    top = torch.tensor(SIGMA_MAX, dtype=torch.float64)
    start = top * noise + GAUSSIAN(top * noise, top)
    sigma = sigma.reshape(-1, 1)
    return along(start, top, sigma) - sigma * noise


def random_student(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ScaleShiftMLP((2,), 16, 2, embedding=8, **kwargs)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return SignalDenoiser(network, STD, SIGMA_MIN, SIGMA_MAX).double()
