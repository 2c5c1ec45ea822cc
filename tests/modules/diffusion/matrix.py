"""The methods of the matrix, made small for a latent teacher, and latents to train on."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from datamodules.loader import StreamLoader
from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentGenerator
from kdlight.diffusion.students import Adapters, LikeTeacher, unguided
from kdlight.networks.images.discriminator import FeatureHead, Head, MeanHead
from kdlight.training.base import DistillationModule
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.continuous_consistency import ContinuousConsistency
from modules.diffusion.disback import DisBack
from modules.diffusion.dmd2 import DMD2
from modules.diffusion.fdistill import FDistill
from modules.diffusion.latent_consistency import LatentConsistency
from modules.diffusion.mean_flow import MeanFlow
from modules.diffusion.progressive_distillation import ProgressiveDistillation
from modules.diffusion.sid import SiD
from modules.diffusion.sida import SiDA


class LatentData(L.LightningDataModule):
    """Eight random latents with what the teacher's network is told of its prompts."""

    def __init__(self, teacher: LatentGenerator, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size
        generator = torch.Generator().manual_seed(5)
        number = torch.arange(8) % 2
        told = {"label": number}
        if teacher.prompts is not None:
            told = {name: rows.clone() for name, rows in teacher.prompts.condition(number).items()}
        self.tensors = {"image": torch.randn(8, *teacher.shape, generator=generator), **told}

    def train_dataloader(self) -> StreamLoader:
        return StreamLoader(self.tensors, batch_size=self.batch_size, steps_per_epoch=4, seed=3)


def head(teacher: Generator, mean: bool = False) -> Head:
    """A head on a block in the middle of the teacher's network."""
    model = unguided(teacher).network.model
    layer = "model.mid_block" if hasattr(model, "mid_block") else "model.transformer_blocks.1"
    width = 8
    if not hasattr(model, "mid_block"):
        width = model.config.num_attention_heads * model.config.attention_head_dim
    return MeanHead([layer]) if mean else FeatureHead([layer], [width])


def second(teacher: Generator) -> float:
    """A noise level where stock schedulers can stop on a walk of two steps."""
    source = unguided(teacher)
    if isinstance(source, FlowDenoiser):
        return 1.0
    assert isinstance(source, VPDenoiser)
    alpha_bar = float(source.alphas_cumprod[499])
    return float(((1 - alpha_bar) / alpha_bar) ** 0.5)


OPTIMIZATION = Optimization(lr=1e-3, clip=1.0)


def score(method: Any, **settings: Any) -> Callable[..., DistillationModule]:
    def make(teacher: Generator, **kwargs: Any) -> DistillationModule:
        given = {k: v(teacher) if callable(v) else v for k, v in settings.items()}
        common = {"iterations": 4, "ema_half_life": 2.0, "student_every": 1}
        return method(teacher, OPTIMIZATION, OPTIMIZATION, **{**common, **given, **kwargs})

    return make


def walk(teacher: Generator) -> list[float]:
    return [second(teacher)]


def progressive(teacher: Generator, **kwargs: Any) -> DistillationModule:
    source = unguided(teacher)
    predicts = isinstance(source, VPDenoiser) and source.prediction == "epsilon"
    student = LikeTeacher(prediction="v_prediction") if predicts else None
    settings = {"student": student, "ema_half_life": 2.0, **kwargs}
    return ProgressiveDistillation(teacher, OPTIMIZATION, 4, 1, 2, **settings)


def consistency(teacher: Generator, **kwargs: Any) -> DistillationModule:
    settings = {"intermediate": walk(teacher), "ema_half_life": 2.0, **kwargs}
    return ConsistencyDistillation(teacher, OPTIMIZATION, 4, **settings)


def tuning(method: Any, **settings: Any) -> Callable[..., DistillationModule]:
    def make(teacher: Generator, **kwargs: Any) -> DistillationModule:
        common = {"intermediate": walk(teacher), "ema_half_life": 2.0}
        return method(OPTIMIZATION, 4, teacher, **{**common, **settings, **kwargs})

    return make


def latent_consistency(teacher: Generator, **kwargs: Any) -> DistillationModule:
    settings = {"guidance_scale": [3.0, 3.0], "guidance_dim": 0, "steps": [2, 1], **kwargs}
    return LatentConsistency(teacher, OPTIMIZATION, 4, ema_half_life=2.0, **settings)


def mean_flow(teacher: Generator, **kwargs: Any) -> DistillationModule:
    settings = {"student": None, "ratio": 0.5, "ema_half_life": 2.0, **kwargs}
    student = settings.pop("student")
    return MeanFlow(student, OPTIMIZATION, 4, teacher, intermediate=[], **settings)


METHODS: dict[str, Callable[..., DistillationModule]] = {
    "progressive_distillation": progressive,
    "consistency_distillation": consistency,
    "ect": tuning(ConsistencyTuning, stages=2),
    "scm": tuning(ContinuousConsistency, warmup=2),
    "lcm": latent_consistency,
    "mean_flow": mean_flow,
    "dmd2": score(DMD2, discriminator=head, intermediate=walk),
    "sid": score(SiD, first=None),
    "sida": score(SiDA, discriminator=lambda t: head(t, mean=True), first=None),
    "fdistill": score(FDistill, discriminator=head, intermediate=walk),
    "disback": score(DisBack, degradation_iterations=1, backtracking_iterations=1, path_length=1),
}


SCORES = ("dmd2", "sid", "sida", "fdistill", "disback")
ADAPTABLE = tuple(name for name in METHODS if name not in ("lcm", "mean_flow"))
"""Methods whose student may be adapters on the teacher's weights; LCM has adapters of its own."""


def adapters_for(method: str) -> dict[str, Any]:
    """Arguments by which student and fake score are adapters on the teacher's weights."""
    adapters = Adapters(rank=2)
    found: dict[str, Any] = {"student": LikeTeacher(adapters=adapters)}
    return found | ({"fake_adapters": adapters} if method in SCORES else {})


def build(method: str, teacher: Generator, **kwargs: Any) -> DistillationModule:
    """A method on a teacher, its new weights always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return METHODS[method](teacher, **kwargs)
