"""Gaussian data, an affine student: every method has to reach the exact consistency function."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from datamodules.loader import StreamLoader
from kdlight.diffusion.curricula import (
    AdaptiveDecay,
    ConstantCurriculum,
    DoublingCurriculum,
    LogNormalIndex,
    SquareRootCurriculum,
    UniformIndex,
)
from kdlight.diffusion.denoisers import ConsistencyDenoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.sigmas import KarrasGrid, LogNormalNoise
from kdlight.losses.distances import PseudoHuber, SquaredL2
from kdlight.networks.mlp import FourierFeatures
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.consistency_training import ConsistencyTraining
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.few_step import FewStepModule
from modules.diffusion.truncated_consistency import TruncatedConsistency
from tests.exactness.harness import fit

MEAN, STD = torch.tensor([0.3, -0.2]), 0.5
SIGMA_MIN, SIGMA_MAX = 0.02, 10.0


class Affine(nn.Module):
    """``F = a(noise) x + b(noise)``: holds the exact function, whatever the preconditioning."""

    num_classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.features = FourierFeatures(32, max_frequency=4.0)
        self.net = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 3))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor, noise: Tensor, condition: object = None) -> Tensor:
        out = self.net(self.features(noise).to(x.dtype))
        return out[:, :1] * x + out[:, 1:]


class GaussianPoints(L.LightningDataModule):
    shape = (2,)
    num_classes = 0

    def train_dataloader(self) -> StreamLoader:
        draws = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(2))
        # Exactly this mean and spread: what a finite draw is off by is no method's fault.
        draws = (draws - draws.mean(0)) / draws.std(0)
        return StreamLoader(
            {"image": MEAN + STD * draws}, 256, steps_per_epoch=1000, seed=1, rank=0, world_size=1
        )


def exact(x: Tensor, sigma: float, end: float) -> Tensor:
    """End of the probability-flow ODE at level ``end``, for N(MEAN, STD^2)."""
    return MEAN + ((STD**2 + end**2) / (STD**2 + sigma**2)) ** 0.5 * (x - MEAN)


def teacher() -> Generator:
    oracle = MixtureDenoiser([MEAN.tolist()], STD**2)
    return Generator(oracle, KarrasGrid(SIGMA_MIN, SIGMA_MAX), (2,))


def consistency_student() -> ConsistencyDenoiser:
    return ConsistencyDenoiser(Affine(), STD, SIGMA_MIN, SIGMA_MAX)


def tuned_student() -> EDMDenoiser:
    return EDMDenoiser(Affine(), STD, SIGMA_MIN, SIGMA_MAX)


SETTINGS = Optimization(lr=5e-3, beta2=0.99, decay="cosine")
ITERATIONS = 1500
COMMON = {"ema_half_life": 50.0, "intermediate": [0.8]}


def distillation() -> FewStepModule:
    return ConsistencyDistillation(
        teacher(),
        SETTINGS,
        ITERATIONS,
        ConstantCurriculum(40),
        student=consistency_student(),
        **COMMON,
    )


def original_training() -> FewStepModule:
    return ConsistencyTraining(
        consistency_student(),
        [2],
        # Its constant weight hands on little from level to level: it takes the longest.
        Optimization(lr=1e-2, beta2=0.99, decay="cosine"),
        5000,
        SquareRootCurriculum(2, 100),
        UniformIndex(),
        SquaredL2(),
        "constant",
        AdaptiveDecay(2, 0.5),
        **COMMON,
    )


def improved_training() -> FewStepModule:
    return ConsistencyTraining(
        consistency_student(),
        [2],
        SETTINGS,
        ITERATIONS,
        DoublingCurriculum(10, 320),
        LogNormalIndex(-0.5, 1.5),
        PseudoHuber(0.1),
        **COMMON,
    )


def tuning() -> FewStepModule:
    return ConsistencyTuning(
        SETTINGS,
        ITERATIONS,
        student=tuned_student(),
        shape=[2],
        noise_law=LogNormalNoise(0.0, 1.5),
        distance=PseudoHuber(0.1),
        **COMMON,
    )


def truncated() -> FewStepModule:
    return TruncatedConsistency(
        SETTINGS,
        2 * ITERATIONS,
        ITERATIONS,
        student=tuned_student(),
        shape=[2],
        noise_law=LogNormalNoise(0.0, 1.5),
        boundary=0.8,
        boundary_weight=1.0,
        distance=PseudoHuber(0.1),
        **COMMON,
    )


METHODS = {f.__name__: f for f in (distillation, original_training, improved_training)} | {
    f.__name__: f for f in (tuning, truncated)
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_affine_student_reaches_the_exact_function(name: str) -> None:
    make: Callable[[], FewStepModule] = METHODS[name]
    torch.manual_seed(0)
    module = fit(make(), GaussianPoints())
    ((_, generator),) = module.generators().values()
    denoiser = generator.denoiser
    x = MEAN + SIGMA_MAX * torch.randn(4000, 2, generator=torch.Generator().manual_seed(9))
    found = denoiser(x, torch.tensor(SIGMA_MAX))
    expected = exact(x, SIGMA_MAX, denoiser.boundary)
    error = float((found - expected).norm() / expected.norm())
    print(f"{name}: relative error {error:.3%}")
    assert error <= 0.02
