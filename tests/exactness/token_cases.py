"""Cases of token models of several calls, and of their distillation."""

from typing import Any

import torch

from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.networks.text.energy_transformer import EnergyTransformer
from kdlight.training.optim import Optimization
from modules.language.energy_diffusion import EnergyDiffusion
from tests.exactness.harness import Case
from tests.exactness.language_cases import LENGTH, V, data, network


def energy_diffusion(**kwargs: Any) -> EnergyDiffusion:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        judge = EnergyTransformer(V, width=8, depth=1, heads=2)
        torch.nn.init.normal_(judge.judge[2].weight, std=0.3)
    return EnergyDiffusion(
        TokenGenerator(MaskedDenoiser(network(2), V, LENGTH)),
        judge,
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


TOKENS = {"energy_diffusion": Case(energy_diffusion, 20, data_module=data)}
