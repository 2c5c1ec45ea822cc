"""Cases of token models of several calls, and of their distillation."""

from typing import Any

import lightning as L
import torch

from datamodules.loader import Batch
from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.discrete.autoregressive import AutoregressiveGenerator, OracleAutoregressive
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.jumps import JumpModel
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.token_flow import TokenCodes
from kdlight.losses.language.pointwise import ReverseKL
from kdlight.networks.text.energy_transformer import EnergyTransformer
from kdlight.networks.text.vector_transformer import VectorTransformer
from kdlight.training.optim import Optimization
from modules.language.discrete.distilled_decoding import DistilledDecoding
from modules.language.discrete.energy_diffusion import EnergyDiffusion
from modules.language.discrete.time_distillation import TimeDistillation
from tests.exactness.harness import BATCH, Case
from tests.exactness.language_cases import LENGTH, V, network, ragged


class PairedLanguage(OracleLanguageDataModule):
    """Sentences with noise of two numbers a token."""

    def read(self) -> tuple[Batch, Batch]:
        training, heldout = super().read()
        source = torch.Generator().manual_seed(4)
        noise = torch.randn(*training["tokens"].shape, 2, generator=source)
        return training | {"noise": noise}, heldout


def language() -> HMMLanguage:
    return HMMLanguage(states=3, vocabulary=V, length=LENGTH)


def paired(batch_size: int = BATCH) -> L.LightningDataModule:
    return PairedLanguage(language(), 40, 10, batch_size, steps_per_epoch=7, seed=3)


def masked(seed: int = 2) -> TokenGenerator:
    return TokenGenerator(MaskedDenoiser(network(seed), V, LENGTH))


def energy_diffusion(teacher: TokenGenerator | None = None, **kwargs: Any) -> EnergyDiffusion:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        judge = EnergyTransformer(V, width=8, depth=1, heads=2)
        torch.nn.init.normal_(judge.judge[2].weight, std=0.3)
    return EnergyDiffusion(
        teacher or masked(),
        judge,
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def distilled_decoding(**kwargs: Any) -> DistilledDecoding:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        jumps = VectorTransformer(2, V, width=8, depth=1, heads=2)
        torch.nn.init.normal_(jumps.head.weight, std=0.3)
    return DistilledDecoding(
        AutoregressiveGenerator(OracleAutoregressive(language())),
        JumpModel(jumps, TokenCodes(V, 2), LENGTH),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        starts=[0, 3],
        ema_half_life=3.0,
        **kwargs,
    )


def time_distillation(**kwargs: Any) -> TimeDistillation:
    return TimeDistillation(
        TokenGenerator(MaskedDenoiser(network(2), V, LENGTH)),
        ReverseKL(),
        Optimization(lr=3e-3, decay="cosine"),
        teacher_steps=8,
        student_steps=2,
        round_iterations=10,
        ema_half_life=3.0,
        **kwargs,
    )


TOKENS = {
    "energy_diffusion": Case(energy_diffusion, 20, data_module=ragged),
    "distilled_decoding": Case(distilled_decoding, 20, data_module=paired),
    "time_distillation": Case(time_distillation, 20, (9, 10, 11), data_module=ragged),
}
