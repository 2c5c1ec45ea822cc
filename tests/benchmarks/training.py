"""A training step of kdlight against a bare PyTorch loop, and what of it is Lightning's."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import lightning as L
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from datamodules.images.digits import DigitsDataModule
from kdlight.callbacks.progress import StageProgress
from kdlight.core.spec import build
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.sigmas import LogNormalNoise
from kdlight.networks.images.discriminator import FeatureHead
from kdlight.teachers.diffusion import bundled_teacher
from kdlight.training.base import DistillationModule
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.diffusion_training import DiffusionTraining
from modules.diffusion.dmd2 import DMD2
from modules.diffusion.progressive_distillation import ProgressiveDistillation
from tests.benchmarks.bare import BareConsistency, BareDiffusion, BareProgressive, batches
from tests.benchmarks.bare_scores import BareDMD2
from tests.benchmarks.interleave import Clock, Pairs

CONFIG = Path(__file__).parents[2] / "configs" / "digits" / "teacher.yaml"
BATCH = 128
CHUNK = 20
LIGHTNING = "  of it Lightning: the bare step in its loop"


class Bare(Protocol):
    """A bare loop's step."""

    def step(self, x0: Tensor, label: Tensor) -> None: ...


class BareInLightning(L.LightningModule):
    """The bare step inside the loop of Lightning, which sees no optimizer: the loop's own cost."""

    def __init__(self, bare: Bare, iterations: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.bare, self.left = bare, iterations

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.bare.step(batch["image"], batch["label"])
        self.left -= 1
        if self.left == 0:
            self.trainer.should_stop = True


class Turns(L.Callback):
    """After every chunk of the trainer's batches, as many steps of the bare loop.

    Each is timed while the other rests. The first turn of both warms up and is dropped.
    """

    def __init__(self, pairs: Pairs, bare: Callable[[], None]) -> None:
        self.pairs, self.bare = pairs, bare
        self.batches = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = Clock.now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1
        if self.batches % CHUNK:
            return
        middle = Clock.now()
        for _step in range(CHUNK):
            self.bare()
        end = Clock.now()
        if self.batches > CHUNK:
            self.pairs.ours.append(middle.since(self.start))
            self.pairs.theirs.append(end.since(middle))
        self.start = Clock.now()


def race(name: str, module: L.LightningModule, bare: Bare) -> Pairs:
    """Train ``module`` as ``kdlight fit`` does, loggers and progress included, against ``bare``."""
    data = DigitsDataModule(BATCH)
    training = data.splits.training
    assert isinstance(training, dict)
    stream = batches(training["image"], training["label"], BATCH)
    return race_on(name, module, data, lambda: bare.step(*next(stream)))


def race_on(
    name: str,
    module: L.LightningModule,
    data: L.LightningDataModule,
    bare: Callable[[], None],
    accelerator: str = "cpu",
) -> Pairs:
    """:func:`race` on any data, against any step, on any device."""
    pairs = Pairs(name, "step", CHUNK)
    turns = Turns(pairs, bare)
    progress = [StageProgress(interval=1e9)] if isinstance(module, DistillationModule) else []
    with TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            limit_val_batches=0,
            logger=[CSVLogger(folder, flush_logs_every_n_steps=1000), TensorBoardLogger(folder)],
            callbacks=[*progress, turns],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
    return pairs


def teacher_settings() -> tuple[EDMDenoiser, Optimization, dict[str, Any]]:
    """Denoiser and optimizer of the bundled teacher's config, without augmentation."""
    settings = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]
    settings["denoiser"]["init_args"]["network"]["init_args"]["augment_dim"] = 0
    return build(settings["denoiser"]), Optimization(**settings["optimizer"]), settings


def diffusion_training(turns: int) -> list[Pairs]:
    """The teacher's training."""
    steps = (turns + 1) * CHUNK
    denoiser, optimizer, settings = teacher_settings()
    law = build(settings["noise_law"])
    assert isinstance(law, LogNormalNoise)

    def bare() -> BareDiffusion:
        half_life, dropout = settings["ema_half_life"], settings["class_dropout"]
        return BareDiffusion(denoiser, optimizer, half_life, steps, law.mean, law.std, dropout)

    module = DiffusionTraining(
        denoiser,
        [1, 8, 8],
        optimizer,
        steps,
        noise_law=law,
        weighting=settings["weighting"],
        class_dropout=settings["class_dropout"],
        ema_half_life=settings["ema_half_life"],
    )
    return [
        race("training a teacher, batch 128", module, bare()),
        race(LIGHTNING, BareInLightning(bare(), steps), bare()),
    ]


def progressive_distillation(turns: int) -> list[Pairs]:
    """One round of 16 steps to 8."""
    steps = (turns + 1) * CHUNK
    teacher = bundled_teacher("digits_teacher")
    optimizer = Optimization(lr=1e-3, beta2=0.99, decay="cosine")
    module = ProgressiveDistillation(
        teacher, optimizer, teacher_steps=16, student_steps=8, round_iterations=steps
    )
    assert isinstance(teacher.denoiser, EDMDenoiser)

    def bare() -> BareProgressive:
        return BareProgressive(teacher.denoiser, optimizer, 200.0, steps, module.grids[0])

    return [
        race("progressive distillation, batch 128", module, bare()),
        race(LIGHTNING, BareInLightning(bare(), steps), bare()),
    ]


def score_distillation(turns: int) -> list[Pairs]:
    """DMD2 with its discriminator; a turn holds whole cycles of five critic updates."""
    steps = (turns + 1) * CHUNK
    teacher = bundled_teacher("digits_teacher")
    optimizer = Optimization(lr=1e-4, beta1=0.0, beta2=0.99, decay="cosine")
    head = FeatureHead(["blocks.1"], [384], maps=False)
    assert isinstance(teacher.denoiser, EDMDenoiser)
    bare = BareDMD2(teacher.denoiser, head, optimizer, 500.0, steps, student_every=5)
    module = DMD2(
        teacher, optimizer, optimizer, student_every=5, iterations=steps, discriminator=head
    )
    return [race("DMD2 with a discriminator, batch 128", module, bare)]


def consistency(turns: int) -> list[Pairs]:
    """Consistency distillation at 18 levels, and consistency tuning in its first stage."""
    steps = (turns + 1) * CHUNK
    teacher = bundled_teacher("digits_teacher")
    optimizer = Optimization(lr=1e-3, beta2=0.99, decay="cosine")
    denoiser = teacher.denoiser
    assert isinstance(denoiser, EDMDenoiser)
    distilled = ConsistencyDistillation(teacher, optimizer, steps)
    levels = distilled.grid.sigmas(18)[:-1]
    tuned = ConsistencyTuning(optimizer, steps, teacher, stages=1)
    return [
        race(
            "consistency distillation, batch 128",
            distilled,
            BareConsistency(denoiser, optimizer, 500.0, steps, levels),
        ),
        race(
            "consistency tuning, batch 128",
            tuned,
            BareConsistency(denoiser, optimizer, 500.0, steps),
        ),
    ]
