"""What the tests of mean flow share."""

import torch
from torch import nn

from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.networks.mlp import ScaleShiftMLP

MEAN, STD = 0.7, 0.5
ORACLE = MixtureDenoiser([[MEAN]], STD**2)


def spread(t):
    """Standard deviation of ``z_t``: ``q^2 = (1 - t)^2 s^2 + t^2``."""
    return ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def exact_slope(r, t):
    """Slope of the average velocity in z.

    On the flow ``x - m`` is proportional to ``sqrt(s^2 + sigma^2)``, so ``z_t - (1 - t) m`` is to
    ``q(t)``; hence ``u = (1 - q(r) / q(t)) / (t - r) (z - (1 - t) m) - m``, here without the 0 / 0
    at r = t.
    """
    return ((t + r) - STD**2 * (2 - t - r)) / (spread(t) * (spread(t) + spread(r)))


class ExactNetwork(nn.Module):
    """The average velocity of one Gaussian, asked as a network is."""

    interval = True

    def forward(self, z, t, condition):
        r = t - condition["interval"]
        t, r = t[:, None], r[:, None]
        return exact_slope(r, t) * (z - (1 - t) * MEAN) - MEAN


def exact():
    return MeanFlowDenoiser(ExactNetwork())


def random_network(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ScaleShiftMLP((3,), 16, 2, embedding=8, interval=True, **kwargs)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network.double()


def draws(count, dim=1, seed=0):
    """States, lower and upper times."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    times = torch.rand(2, count, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    return z, times.amin(0), times.amax(0)
