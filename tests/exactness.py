"""The shared harness: every method is held to the same exactness, through the same code.

A method adds one :class:`Case` to ``CASES`` and is then tested for bit-equal resume, equality of
two ranks with one, an untouched and unsaved teacher, and the guard against non-finite gradients.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import lightning as L
import torch
from torch import Tensor

from datamodules.loader import StreamLoader
from kdlight.balance import LossBalance
from kdlight.base import DistillationModule
from kdlight.callbacks.checkpoint import AtomicCheckpointIO
from kdlight.codec.balancer import GradientBalancer
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.diffusion.curricula import AdaptiveDecay, ConstantDecay, DoublingCurriculum
from kdlight.diffusion.denoisers import (
    ConsistencyDenoiser,
    EDMDenoiser,
    TrigFlowDenoiser,
    VPDenoiser,
)
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid, TrailingGrid
from kdlight.losses.spectral import LogMelLoss
from kdlight.networks.discriminator import FeatureHead, Head, MeanHead
from kdlight.networks.discriminators.period import MultiPeriodDiscriminator
from kdlight.networks.lora import Adapters
from kdlight.networks.loss_weight import AdaptiveWeight
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.networks.unet_condition import UNet2DCondition
from kdlight.optim import Optimization
from kdlight.score_distillation import ScoreDistillationModule
from modules.diffusion.boot import Boot
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.consistency_training import ConsistencyTraining
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.continuous_consistency import ContinuousConsistency
from modules.diffusion.diff_instruct import DiffInstruct
from modules.diffusion.diffusion_training import DiffusionTraining
from modules.diffusion.disback import DisBack
from modules.diffusion.dmd import DMD
from modules.diffusion.dmd2 import DMD2
from modules.diffusion.fdistill import FDistill
from modules.diffusion.latent_consistency import LatentConsistency
from modules.diffusion.mean_flow import MeanFlow
from modules.diffusion.multi_student import MultiStudent
from modules.diffusion.progressive_distillation import ProgressiveDistillation
from modules.diffusion.score_forgetting import ScoreForgetting
from modules.diffusion.sid import SiD
from modules.diffusion.sida import SiDA
from modules.diffusion.trajectory_regression import TrajectoryRegression
from modules.diffusion.truncated_consistency import TruncatedConsistency
from modules.speech.codec_training import CodecTraining
from tests.guided_cases import RATE, TinyTalk, codec_to_codec, guided, guided_split, tiny_codec

BATCH = 12
Maker = Callable[..., DistillationModule]


@dataclass(frozen=True)
class Case:
    """How to make one method, small, and where its stages begin."""

    make: Maker
    iterations: int
    boundaries: tuple[int, ...] = ()
    parts: tuple[str, ...] = ("image", "label")
    speech: bool = False

    def data(self, batch_size: int = BATCH) -> L.LightningDataModule:
        """What it trains on, at a batch size of one rank; a third of it for utterances."""
        if self.speech:
            return TinyTalk(batch_size // 3)
        return TinyImages(batch_size, parts=self.parts)


class TinyImages(L.LightningDataModule):
    """Forty random 4x4 images in two classes, streamed by the project's own loader.

    ``parts`` says what a batch holds: ``image``, ``label``, ``noise``.
    """

    shape = (1, 4, 4)
    num_classes = 2

    def __init__(
        self,
        batch_size: int = BATCH,
        steps_per_epoch: int = 7,
        parts: tuple[str, ...] = ("image", "label"),
    ) -> None:
        super().__init__()
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.parts = parts

    def train_dataloader(self) -> StreamLoader:
        generator = torch.Generator().manual_seed(5)
        image = torch.rand(40, *self.shape, generator=generator) * 2 - 1
        noise = torch.randn(40, *self.shape, generator=generator)
        known = {"image": image, "label": torch.arange(40) % 2, "noise": noise}
        return StreamLoader(
            {name: known[name] for name in self.parts},
            batch_size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            seed=3,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )


def tiny_denoiser(seed: int = 1) -> EDMDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ScaleShiftMLP((1, 4, 4), 16, 1, num_classes=2, embedding=8, augment_dim=5)
        # All these start at zero; a teacher needs something to say, about its label too.
        for name, weight in network.named_parameters():
            if name.endswith(("output.weight", "modulation.weight", "down.weight")):
                torch.nn.init.normal_(weight, std=0.3)
    return EDMDenoiser(network, sigma_data=0.5, sigma_min=0.02, sigma_max=20.0)


def tiny_teacher() -> Generator:
    return Generator(tiny_denoiser(), KarrasGrid(0.02, 20.0), (1, 4, 4))


def diffusion_training(**kwargs: Any) -> DiffusionTraining:
    return DiffusionTraining(
        tiny_denoiser(),
        [1, 4, 4],
        Optimization(lr=3e-3, warmup=3, decay="cosine", clip=1.0),
        iterations=20,
        class_dropout=0.2,
        augmentation=AffineAugmentation(),
        ema_half_life=5.0,
        **kwargs,
    )


def progressive_distillation(**kwargs: Any) -> ProgressiveDistillation:
    return ProgressiveDistillation(
        tiny_teacher(),
        Optimization(lr=3e-3, decay="linear"),
        teacher_steps=8,
        student_steps=1,
        round_iterations=[6, 7, 8],
        keep=(4, 2, 1),
        ema_half_life=3.0,
        **kwargs,
    )


def consistency_distillation(**kwargs: Any) -> ConsistencyDistillation:
    return ConsistencyDistillation(
        tiny_teacher(),
        Optimization(lr=3e-3),
        iterations=20,
        target_decay=ConstantDecay(0.8),
        intermediate=[1.0],
        ema_half_life=3.0,
        **kwargs,
    )


def consistency_training(**kwargs: Any) -> ConsistencyTraining:
    return ConsistencyTraining(
        ConsistencyDenoiser(tiny_denoiser().network, 0.5, 0.02, 20.0),
        [1, 4, 4],
        Optimization(algorithm="radam", lr=3e-3),
        iterations=20,
        curriculum=DoublingCurriculum(4, 16),
        target_decay=AdaptiveDecay(2, 0.5),
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


def consistency_tuning(**kwargs: Any) -> ConsistencyTuning:
    return ConsistencyTuning(
        Optimization(lr=3e-3), 20, tiny_teacher(), stages=3, ema_half_life=3.0, **kwargs
    )


def truncated_consistency(**kwargs: Any) -> TruncatedConsistency:
    return TruncatedConsistency(
        Optimization(lr=3e-3, decay="linear"),
        20,
        9,
        tiny_teacher(),
        stages=3,
        ema_half_life=3.0,
        **kwargs,
    )


def continuous_distillation(**kwargs: Any) -> ContinuousConsistency:
    return ContinuousConsistency(
        Optimization(lr=3e-3, decay="linear"),
        20,
        tiny_teacher(),
        weighting=AdaptiveWeight(8),
        weighting_optimizer=Optimization(lr=1e-2),
        warmup=9,
        ema_half_life=3.0,
        **kwargs,
    )


def continuous_training(**kwargs: Any) -> ContinuousConsistency:
    return ContinuousConsistency(
        Optimization(algorithm="radam", lr=3e-3),
        20,
        student=TrigFlowDenoiser(tiny_denoiser().network, 0.5, 0.02, 20.0),
        shape=[1, 4, 4],
        derivative="finite_difference",
        warmup=9,
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


def mean_flow(**kwargs: Any) -> MeanFlow:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = ScaleShiftMLP((1, 4, 4), 16, 1, num_classes=2, embedding=8, interval=True)
    return MeanFlow(
        MeanFlowDenoiser(network),
        Optimization(lr=3e-3, clip=1.0),
        iterations=20,
        shape=[1, 4, 4],
        ratio=0.5,
        guidance_scale=2.0,
        class_dropout=0.2,
        ema_half_life=3.0,
        **kwargs,
    )


def latent_teacher() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNet2DCondition(4, 1, num_classes=2, block_out_channels=(8, 8))
    denoiser = VPDenoiser(network, "scaled_linear", "v_prediction")
    return Generator(denoiser, TrailingGrid("scaled_linear"), (1, 4, 4), "euler", (50,))


def latent_consistency(**kwargs: Any) -> LatentConsistency:
    return LatentConsistency(
        latent_teacher(),
        Optimization(lr=3e-3, clip=1.0),
        iterations=20,
        guidance_dim=8,
        target_decay=ConstantDecay(0.8),
        ema_half_life=3.0,
        **kwargs,
    )


def latent_consistency_lora(**kwargs: Any) -> LatentConsistency:
    with torch.random.fork_rng():
        torch.manual_seed(2)  # adapters start at random
        return LatentConsistency(
            latent_teacher(),
            Optimization(lr=3e-3),
            iterations=20,
            guidance_scale=[8.5, 8.5],
            guidance_dim=0,
            adapters=Adapters(rank=2),
            ema_half_life=3.0,
            **kwargs,
        )


def tiny_head(adversarial: bool = True) -> Head:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return FeatureHead(["blocks.0"], [16], maps=False) if adversarial else MeanHead(["input"])


def score_distillation(method: type[ScoreDistillationModule], **settings: Any) -> Maker:
    """A maker of one of the methods of score distillation, its student updated now and then."""

    def make(**kwargs: Any) -> ScoreDistillationModule:
        made = {name: value() if callable(value) else value for name, value in settings.items()}
        return method(
            **{
                "teacher": tiny_teacher(),
                "optimizer": Optimization(lr=3e-3, decay="linear"),
                "fake_optimizer": Optimization(lr=3e-3, beta1=0.0, clip=1.0),
                "iterations": 20,
                "ema_half_life": 3.0,
                **made,
                **kwargs,
            }
        )

    return make


def lora_fake_score(**kwargs: Any) -> DMD2:
    with torch.random.fork_rng():
        torch.manual_seed(2)  # adapters start at random
        return DMD2(
            latent_teacher(),
            Optimization(lr=3e-3),
            Optimization(lr=3e-3),
            iterations=20,
            student_every=1,
            fake_adapters=Adapters(rank=2),
            checkpointing=True,
            ema_half_life=3.0,
            **kwargs,
        )


def boot(**kwargs: Any) -> Boot:
    return Boot(tiny_teacher(), Optimization(lr=3e-3), iterations=20, ema_half_life=3.0, **kwargs)


def trajectory_regression(**kwargs: Any) -> TrajectoryRegression:
    return TrajectoryRegression(
        tiny_teacher(), Optimization(lr=3e-3), iterations=20, ema_half_life=3.0, **kwargs
    )


def codec_training(**kwargs: Any) -> CodecTraining:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        discriminator = MultiPeriodDiscriminator([2, 3], channels=2)
    return CodecTraining(
        tiny_codec(),
        Optimization(lr=3e-3, clip=1.0),
        iterations=20,
        discriminator=discriminator,
        discriminator_optimizer=Optimization(lr=1e-3),
        spectral=LogMelLoss(RATE, (320,), (16,)),
        adversarial_loss="hinge",
        relative_features=True,
        balancer=GradientBalancer(0.9),
        warmup=3,
        dropout=0.5,
        **kwargs,
    )


NOISE = ("noise", "label")
PAIRS = ("image", "noise", "label")

CASES = {
    "diffusion_training": Case(diffusion_training, 20),
    "progressive_distillation": Case(progressive_distillation, 21, (6, 13)),
    "consistency_distillation": Case(consistency_distillation, 20),
    "consistency_training": Case(consistency_training, 20, (6, 12, 18)),
    "consistency_tuning": Case(consistency_tuning, 20, (7, 14)),
    "truncated_consistency": Case(truncated_consistency, 20, (3, 6, 9)),
    "continuous_distillation": Case(continuous_distillation, 20, (9,)),
    "continuous_training": Case(continuous_training, 20, (9,)),
    "mean_flow": Case(mean_flow, 20),
    "latent_consistency": Case(latent_consistency, 20),
    "latent_consistency_lora": Case(latent_consistency_lora, 20),
    "trajectory_regression": Case(trajectory_regression, 20, parts=PAIRS),
    "boot": Case(boot, 20, parts=NOISE),
    "diff_instruct": Case(score_distillation(DiffInstruct), 20, parts=NOISE),
    "dmd": Case(score_distillation(DMD), 20, parts=PAIRS),
    # Three steps, and the balance measured in some of the turns.
    "dmd2": Case(
        score_distillation(
            DMD2, discriminator=tiny_head, intermediate=[5.0, 1.0], balance=lambda: LossBalance(2)
        ),
        20,
    ),
    "dmd2_teacher_features": Case(
        score_distillation(
            DMD2,
            discriminator=tiny_head,
            features="teacher",
            intermediate=[1.0],
            backward_simulation=False,
            guidance_scale=2.0,
        ),
        20,
    ),
    "dmd2_lora": Case(lora_fake_score, 20),
    "sid": Case(score_distillation(SiD), 20, parts=NOISE),
    "sida": Case(score_distillation(SiDA, discriminator=lambda: tiny_head(False)), 20),
    "fdistill": Case(score_distillation(FDistill, discriminator=tiny_head), 20),
    "disback": Case(
        score_distillation(
            DisBack,
            student_every=1,
            discriminator=tiny_head,
            degradation_iterations=4,
            backtracking_iterations=9,
            path_length=2,
        ),
        20,
        (2, 3, 5, 9, 10, 13),
    ),
    "multi_student": Case(
        score_distillation(
            MultiStudent,
            student_every=1,
            partition=[[1], [0]],
            # Rounding is what divides two ranks from one, and Adam makes steps of small gradients.
            optimizer=lambda: Optimization(lr=1e-3, decay="linear"),
            student=lambda: tiny_denoiser(2),
            matching_iterations=3,
            discriminator=tiny_head,
        ),
        20,
        (2, 3, 5),
    ),
    "score_forgetting": Case(score_distillation(ScoreForgetting, forget={1: 0}), 20, parts=NOISE),
    "codec_training": Case(codec_training, 20, (3,), speech=True),
    "guided_codec": Case(guided, 20, speech=True),
    "guided_split_codec": Case(guided_split, 20, speech=True),
    "codec_to_codec": Case(partial(codec_to_codec, Path(mkdtemp())), 20, speech=True),
}


class SaveAt(L.Callback):
    """Saves a checkpoint after the given iterations."""

    def __init__(self, folder: Path, iterations: tuple[int, ...]) -> None:
        self.folder, self.iterations = folder, iterations

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.iteration in self.iterations:
            trainer.save_checkpoint(self.folder / f"{pl_module.iteration}.ckpt")


def fit(
    module: DistillationModule,
    data: L.LightningDataModule | None = None,
    callbacks: list[L.Callback] | None = None,
    ckpt_path: Path | None = None,
    **trainer: Any,
) -> DistillationModule:
    """Train to the module's own end, silently."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [AtomicCheckpointIO()],
    } | trainer
    runner = L.Trainer(callbacks=callbacks, **settings)
    runner.fit(module, datamodule=data or TinyImages(), ckpt_path=ckpt_path, weights_only=True)
    return module


def fit_as_one_rank(folder: Path) -> None:
    """What each of several processes runs: every case at its share of the joint batch."""
    from lightning.pytorch.strategies import DDPStrategy

    world_size = int(os.environ["WORLD_SIZE"])
    for name, case in CASES.items():
        strategy = DDPStrategy(
            process_group_backend="gloo",
            find_unused_parameters=True,  # as configs/base/ddp.yaml
        )
        module = fit(
            case.make(),
            case.data(BATCH // world_size),
            devices=world_size,
            strategy=strategy,
        )
        torch.save(state(module), folder / f"{name}_{os.environ['RANK']}.pt")


def state(module: DistillationModule) -> dict[str, Tensor]:
    found = {k: v.detach().clone() for k, v in module.state_dict().items() if torch.is_tensor(v)}
    for part in module.modules():
        if isinstance(part, GradientBalancer):
            found |= {f"norms.{name}": norm.clone() for name, norm in part.norms.items()}
    return found


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> Iterator[str]:
    assert a.keys() == b.keys()
    return (key for key in a if not torch.equal(a[key], b[key]))


if __name__ == "__main__":
    fit_as_one_rank(Path(sys.argv[1]))
