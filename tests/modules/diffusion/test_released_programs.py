"""Losses, gradients and samples are those of the releases, on the networks of the releases.

``released_programs.json`` holds what NVlabs/edm 008a4e5, locuslab/ect 4311059, mingyuanzhou/SiD
01fbb13 with its branch ``sida``, and tianweiy/DMD2 8d8fa55 gave on the CPU in float64, for small
networks of NVlabs/edm and NVlabs/edm2 4bf8162 whose weights are drawn by the rule of
``tests/networks/edm/recipe.py``. Of a gradient there are its norm and its product with a drawn
direction. Their sums over a sample's numbers were divided by how many those are.
"""

import json
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.losses.distances import PseudoHuber
from kdlight.networks.images.discriminator import BottleneckHead, MeanHead
from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.networks.images.edm.song import SongUNet
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.diffusion_training import DiffusionTraining
from modules.diffusion.dmd2 import DMD2
from modules.diffusion.sid import SiD
from modules.diffusion.sida import SiDA
from tests.networks.edm.recipe import LABEL, SIGMA, drawn

RELEASED = json.loads(
    Path(__file__).with_suffix("").with_name("released_programs.json").read_text()
)
SMALL = {"channel_mult": (1, 1), "num_blocks": 1, "attention": (8,)}
NETWORKS: dict[str, Any] = {
    "song": lambda: SongUNet(16, 3, 10, 9, model_channels=32, **SMALL),
    "adm": lambda: DhariwalUNet(16, 3, 10, model_channels=64, **SMALL),
    "edm2": lambda: EDM2UNet(16, 3, 10, model_channels=64, **SMALL),
}
# Where the others take seconds.
FIRST = ["song", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("adm", "edm2"))]
SHAPE = (3, 16, 16)
CONDITION = {"label": LABEL}
ENCODERS_END = "enc.8x8_block0"


def tensor(seed: int) -> Tensor:
    return (
        torch.from_numpy(np.random.default_rng(seed).standard_normal((2, *SHAPE))).float().double()
    )


X0, OTHER = (tensor(seed).mul(0.5).clamp(-1, 1) for seed in (0, 5))
EPS = tensor(2)
BATCH = {"image": OTHER, "noise": EPS, **CONDITION}


class GivenNoise:
    """A stream of noise that is laid down beforehand."""

    def __init__(self, *normal: Tensor) -> None:
        self._normal = iter(normal)

    def normal(self, like: Tensor) -> Tensor:
        return next(self._normal)

    def uniform(self, count: int) -> Tensor:
        return torch.zeros(count)


def levels(_: Tensor) -> Tensor:
    return SIGMA.double()


def fill(network: nn.Module, rule: str = "") -> None:
    state = network.state_dict()
    network.load_state_dict({name: drawn(rule + name, v.shape) for name, v in state.items()})


def denoiser(kind: str, rule: str = "") -> EDMDenoiser:
    network = NETWORKS[kind]()
    fill(network, rule)
    return EDMDenoiser(network).eval().double()


def teacher(kind: str) -> Generator:
    return Generator(denoiser(kind), KarrasGrid(0.002, 80.0), SHAPE, "heun", (4,))


def gradients(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, weight in part.named_parameters():
        if weight.grad is not None:
            yield name.removeprefix("network."), weight.grad


def digest(named: Iterable[tuple[str, Tensor]]) -> list[float]:
    """Norm of a gradient, and its product with a direction drawn by the names of its parts."""
    square, along = 0.0, 0.0
    for name, gradient in named:
        source = np.random.default_rng(zlib.crc32(f"to.{name}".encode()))
        direction = torch.from_numpy(source.standard_normal(tuple(gradient.shape)))
        square += float(gradient.double().square().sum())
        along += float((gradient.double() * direction).sum())
    return [math.sqrt(square), along]


def agrees(name: str, values: list[float]) -> None:
    """To 1e-5 of each loss, and of each gradient's norm."""
    expected = RELEASED[name]
    losses = len(expected) % 2 or 2
    for index in range(losses):
        assert values[index] == pytest.approx(expected[index], rel=1e-5)
    for index in range(losses, len(expected), 2):
        assert values[index] == pytest.approx(expected[index], rel=1e-5)
        assert values[index + 1] == pytest.approx(expected[index + 1], abs=1e-5 * values[index])


@pytest.mark.parametrize("kind", NETWORKS)
def test_edm_loss(kind: str) -> None:
    method = DiffusionTraining(denoiser(kind), SHAPE, Optimization(), noise_law=levels)
    method.noise = GivenNoise(EPS)
    loss = method.loss(X0, CONDITION)
    loss.backward()
    agrees(f"edm_loss.{kind}", [loss.item(), *digest(gradients(method.denoiser))])


@pytest.mark.parametrize("kind", NETWORKS)
def test_heun(kind: str) -> None:
    samples = teacher(kind)(EPS, CONDITION).double().flatten()
    norm, *numbers = RELEASED[f"heun.{kind}"]
    assert float(samples.norm()) == pytest.approx(norm, rel=1e-5)
    assert samples[[0, 1, 2, -1]].tolist() == pytest.approx(numbers, abs=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    ("name", "stage", "q", "c"),
    [("ect", 4, 2, 0), pytest.param("ect_huber", 2, 4, 0.06, marks=pytest.mark.slow)],
)
def test_easy_consistency_tuning(name: str, stage: int, q: float, c: float, kind: str) -> None:
    method = ConsistencyTuning(
        Optimization(),
        iterations=stage,
        student=denoiser(kind),
        shape=list(SHAPE),
        noise_law=levels,
        stages=stage,
        q=q,
        distance=PseudoHuber(c),
    )
    method.iteration = stage - 1
    method.noise = GivenNoise(EPS)
    loss = method.consistency_loss(X0, SIGMA, CONDITION)
    loss.backward()
    agrees(f"{name}.{kind}", [loss.item(), *digest(gradients(method.student))])


def critics_turn(method: Any, names: tuple[str, ...]) -> list[float]:
    terms = method.critic_terms(BATCH, X0, CONDITION)
    method._total(terms).backward()
    return [terms[name].item() for name in names] + digest(gradients(method.fake_score))


def students_turn(method: Any, names: tuple[str, ...]) -> list[float]:
    method.critic.requires_grad_(False)
    x = method.generate(EPS, CONDITION, BATCH)
    terms = method.student_terms(BATCH, x, CONDITION)
    method._total(terms).backward()
    return [terms[name].item() for name in names] + digest(gradients(method.student))


def parts(kind: str) -> dict[str, Any]:
    return {
        "teacher": teacher(kind),
        "optimizer": Optimization(),
        "fake_optimizer": Optimization(),
        "student": denoiser(kind, "student."),
        "fake_score": denoiser(kind, "fake."),
        "noise_law": levels,
        "fake_noise_law": levels,
    }


@pytest.mark.parametrize("kind", FIRST)
def test_score_identity(kind: str) -> None:
    method = SiD(**parts(kind))
    method.noise = GivenNoise(EPS, EPS.flip(0))
    agrees(f"sid_critic.{kind}", critics_turn(method, ("denoising",)))
    agrees(f"sid_student.{kind}", students_turn(method, ("score",)))


@pytest.mark.parametrize("kind", FIRST)
def test_adversarial_score_identity(kind: str) -> None:
    # Their terms are sums of a sample's numbers, and the adversarial ones alike at every number.
    weights = {"gan": 0.01, "discriminator": 0.01}
    method = SiDA(**parts(kind), discriminator=MeanHead([ENCODERS_END]), weights=weights)
    method.noise = GivenNoise(EPS, EPS.flip(0))
    agrees(f"sida_critic.{kind}", critics_turn(method, ("denoising", "discriminator")))
    agrees(f"sida_student.{kind}", students_turn(method, ("score", "gan")))


def test_distribution_matching_with_a_discriminator() -> None:
    head = BottleneckHead([ENCODERS_END], [64]).double()
    fill(head.classifiers[0], "head.")
    method = DMD2(**parts("adm"), discriminator=head)
    x = X0.clone().requires_grad_()
    method.noise = GivenNoise(EPS, EPS.flip(0))
    terms = method.student_terms(BATCH, x, CONDITION)
    method._total(terms).backward()
    values = [terms["score"].item(), terms["gan"].item()]
    assert x.grad is not None
    agrees("dmd2_student.adm", values + digest([("x", x.grad)]))
    method.critic.zero_grad()
    method.noise = GivenNoise(EPS, EPS.flip(0), EPS.flip(1))
    found = critics_turn(method, ("denoising", "discriminator"))
    agrees("dmd2_critic.adm", found + digest(gradients(head.classifiers[0])))
