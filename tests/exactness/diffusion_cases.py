"""Cases of diffusion, and the tiny networks they are made of."""

from typing import Any

import torch

from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.curricula import AdaptiveDecay, ConstantDecay, DoublingCurriculum
from kdlight.diffusion.denoisers import ConsistencyDenoiser, EDMDenoiser, TrigFlowDenoiser
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid, TrailingGrid
from kdlight.diffusion.students import Adapters, LikeTeacher
from kdlight.networks.images.discriminator import FeatureHead, Head, MeanHead
from kdlight.networks.images.unet_condition import UNet2DCondition
from kdlight.networks.loss_weight import AdaptiveWeight
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.training.balance import LossBalance
from kdlight.training.optim import Optimization
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
from modules.diffusion.score_distillation import ScoreDistillationModule
from modules.diffusion.score_forgetting import ScoreForgetting
from modules.diffusion.sid import SiD
from modules.diffusion.sida import SiDA
from modules.diffusion.trajectory_regression import TrajectoryRegression
from modules.diffusion.truncated_consistency import TruncatedConsistency
from tests.exactness.harness import NOISE, PAIRS, Case, Maker


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
        iterations=10,
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
            iterations=10,
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


def lora_scores(student: LikeTeacher | None = None) -> Maker:
    """A maker of DMD2 whose fake score, and student if asked for, are adapters on the teacher."""

    def make(**kwargs: Any) -> DMD2:
        with torch.random.fork_rng():
            torch.manual_seed(2)  # adapters start at random
            return DMD2(
                latent_teacher(),
                # Adam makes steps of small gradients, and of their rounding.
                Optimization(lr=1e-3),
                Optimization(lr=1e-3),
                iterations=10,
                student=student,
                student_every=1,
                fake_adapters=Adapters(rank=2),
                checkpointing=True,
                ema_half_life=3.0,
                **kwargs,
            )

    return make


def boot(**kwargs: Any) -> Boot:
    return Boot(tiny_teacher(), Optimization(lr=3e-3), iterations=20, ema_half_life=3.0, **kwargs)


def trajectory_regression(**kwargs: Any) -> TrajectoryRegression:
    return TrajectoryRegression(
        tiny_teacher(), Optimization(lr=3e-3), iterations=20, ema_half_life=3.0, **kwargs
    )


DIFFUSION = {
    "diffusion_training": Case(diffusion_training, 20),
    "progressive_distillation": Case(progressive_distillation, 21, (6, 13)),
    "consistency_distillation": Case(consistency_distillation, 20),
    "consistency_training": Case(consistency_training, 20, (6, 12, 18)),
    "consistency_tuning": Case(consistency_tuning, 20, (7, 14)),
    "truncated_consistency": Case(truncated_consistency, 20, (3, 6, 9)),
    "continuous_distillation": Case(continuous_distillation, 20, (9,)),
    "continuous_training": Case(continuous_training, 20, (9,)),
    "mean_flow": Case(mean_flow, 20),
    # A U-Net of many small layers takes its time.
    "latent_consistency": Case(latent_consistency, 10),
    "latent_consistency_lora": Case(latent_consistency_lora, 10),
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
    "dmd2_lora": Case(lora_scores(), 10),
    "dmd2_lora_student": Case(lora_scores(LikeTeacher(adapters=Adapters(rank=2))), 10),
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
}
