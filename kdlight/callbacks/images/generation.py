"""Runs the metrics of generation at validation and, in full, when training ends."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from kdlight.callbacks.images.pictures import save_grid
from kdlight.callbacks.tensorboard import show_picture
from kdlight.core.memory import check_fits
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveInt, Range
from kdlight.core.whole import whole
from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generates, Generator, noise_for
from kdlight.errors import InputError
from kdlight.metrics.images.extractors import (
    ClassifierFeatures,
    FeatureExtractor,
    as_classifier,
)
from kdlight.metrics.images.forgetting import ForgettingMetrics, check_forgotten
from kdlight.metrics.images.generation import GenerationMetrics, Row, latencies
from kdlight.metrics.images.teacher_gap import TeacherGap
from kdlight.report.table import summary_table
from kdlight.storage.files import write_json
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of

Walk = tuple[str, Generator, int]


HEADLINE = (
    "model",
    "steps",
    "nfe",
    "seed",
    "fid",
    "fid_best",
    "clip_score",
    "clean_fid",
    "clean_fid_best",
    "frechet_features",
    "frechet_features_floor",
    "frechet_pixels",
    "frechet_pixels_floor",
    "frechet_pooled_pixels",
    "frechet_pooled_pixels_floor",
    "sliced_wasserstein",
    "sliced_wasserstein_floor",
    "modes",
    "strays",
    "crisp",
    "covered",
    "accuracy",
    "accuracy_forgotten",
    "accuracy_retained",
    "frechet_features_retained",
    "frechet_features_retained_floor",
    "nearest",
    "memorisation",
    "variance",
    "ms_per_image",
    "speed_up",
)


def print_rows(rows: list[Row]) -> None:
    """The headline figures as a table, all where there are none of them; the file has them all."""
    headlines = [{key: row[key] for key in HEADLINE if key in row} for row in rows]
    if all(row.keys() <= {"model", "steps"} for row in headlines):  # of speech or language
        headlines = rows
    print_table(headlines)


def print_table(rows: list[Row]) -> None:
    """All figures of the rows as a table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(summary_table(rows))


def _same_walk(first: Walk, second: Walk) -> bool:
    """Whether two walks of one denoiser are the same; of one step, all samplers' are."""
    (_, one, steps), (_, other, other_steps) = first, second
    if steps != other_steps or (steps > 1 and one.algorithm != other.algorithm):
        return False
    return torch.equal(one.grid.sigmas(steps), other.grid.sigmas(steps))


def _generating(module: L.LightningModule) -> Generates:
    """``module``, if it generates.

    Raises:
        InputError: It does not.
    """
    if not isinstance(module, Generates):
        raise InputError(
            "trainer.callbacks: GenerationReport: expected a method that ends in generators, "
            f"found {type(module).__name__}."
        )
    return module


def _models(module: Generates) -> list[tuple[str, Generator]]:
    """All that is measured, by name."""
    teacher = module.teacher_generator()
    known = [] if teacher is None else [("teacher", teacher)]
    return [*module.generators().values(), *known]


def shown(samples: Tensor) -> Tensor:
    """As many as make a picture: a hundred images, every point of a scatter plot."""
    return samples if samples.ndim == 2 else samples[:100]


class GenerationReport(Ranged, L.Callback):
    """Quality, fidelity to the teacher and speed of what a run trains.

    At validation: the student's figures over ``preview`` samples as ``val/<metric>`` and a grid
    of samples. At the end (and for ``test``): one row per model and number of steps over
    ``num_samples`` samples, printed, and written to ``summary.json`` with a grid for each.

    Args:
        num_samples: Samples of the final rows.
        preview: Samples at validation; 0 for none.
        classifier: Judge and headline features: a file or the name of a bundled classifier.
        features: Another feature extractor for the headline Frechet distance.
        teacher_steps: Step counts at which the teacher is walked with its own sampler, such as
            ``[18, 8, 4]`` for its curve over NFE; its default if null. It is walked at the
            students' steps besides; a walk that would be the same twice is measured once.
        batch_size: Samples at once.
        latency_batch: Samples at once when speed is measured; 0 leaves speed out.
        seed: Seed of the evaluation noise, the same for every run that is to be compared.
        forgotten: Classes that the student ought to have forgotten; every row then holds the
            figures of :class:`kdlight.metrics.images.forgetting.ForgettingMetrics` too.

    Raises:
        InputError: ``forgotten`` without a classifier, or a number out of range; or, before
            training starts, classes that do not exist, a model or data without labels, steps that
            the teacher cannot be walked in, or more samples than fit into memory.
    """

    def __init__(
        self,
        num_samples: Annotated[int, Range(2)] = 2000,
        preview: NonNegativeInt = 500,
        classifier: str | None = None,
        features: FeatureExtractor | None = None,
        teacher_steps: list[PositiveInt] | None = None,
        batch_size: PositiveInt = 500,
        latency_batch: NonNegativeInt = 100,
        seed: int = 1234,
        forgotten: list[int] | None = None,
    ) -> None:
        if forgotten is not None and classifier is None:
            raise InputError("forgotten: expected a classifier to judge the classes, found none.")
        if preview == 1:
            raise InputError("preview: expected 0, or samples enough to measure, found 1.")
        self.num_samples = num_samples
        self.preview = preview
        self.classifier = None if classifier is None else as_classifier(classifier)
        self.features = features
        if self.features is None and self.classifier is not None:
            self.features = ClassifierFeatures(self.classifier)
        self.teacher_steps = teacher_steps
        self.batch_size = batch_size
        self.latency_batch = latency_batch
        self.seed = seed
        self.forgotten = forgotten
        self._metrics: GenerationMetrics | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        method = _generating(pl_module)
        for name, generator, steps in self._walks(method, method.teacher_generator()):
            if not generator.accepts(steps):
                known = ", ".join(map(str, sorted(generator.steps)))
                raise InputError(
                    f"teacher_steps: expected {known} as the {name} samples in, found {steps}."
                )
            generator.grid.sigmas(steps)  # complains of more than it has
            for key in ("num_samples", "preview"):
                check_fits(key, getattr(self, key), generator.shape, copies=2)
            check_fits("latency_batch", self.latency_batch, generator.shape)
        if self.forgotten is None:
            return
        data = data_of(trainer)
        classes = {"the data": getattr(data, "num_classes", 0)}
        classes |= {f"the {name}": model.num_classes for name, model in _models(method)}
        for owner, count in classes.items():
            check_forgotten(self.forgotten, count, owner)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        if trainer.sanity_checking or self.preview < 2:
            return
        name, generator = next(iter(_generating(pl_module).generators().values()))
        walk = (name, generator, generator.steps[0])
        with whole(pl_module):
            row, images = self._measure(trainer, pl_module, walk, self.preview)
        figures = {f"val/{key}": float(value) for key, value in row.items()}
        # Updates of the student: fewer than iterations where other parts are trained in between.
        figures |= {
            "iteration": float(pl_module.iteration),
            "val/updates": float(trainer.global_step),
        }
        pl_module.log_dict(figures, rank_zero_only=True)
        folder = trainer.log_dir  # a collective: every rank asks, and once
        if folder and trainer.is_global_zero:
            path = Path(folder) / "samples" / f"progress_{pl_module.iteration:07d}.png"
            save_grid(shown(images), path)
            show_picture(trainer, "samples/progress", path, pl_module.iteration)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with whole(pl_module):
            self._summarise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def _summarise(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        log_dir = trainer.log_dir  # a collective: every rank asks, and once
        folder = Path(log_dir) if log_dir else None
        method = _generating(pl_module)
        teacher = method.teacher_generator()
        walks = self._walks(method, teacher)
        times = self._times(walks, pl_module.device)
        # The teacher's own samples, which every student is held against, by the classes asked for.
        own: dict[int, Tensor] = {}
        pictures: set[str] = set()
        rows = []
        for index, walk in enumerate(walks):
            name, generator, steps = walk
            row: Row = {
                "model": name,
                "steps": steps,
                "nfe": generator.evaluations(steps),
                "algorithm": generator.algorithm,
            }
            target = None
            if teacher is not None and name != "teacher":
                classes = generator.num_classes
                if classes not in own:
                    own[classes] = self._teacher_samples(trainer, pl_module, teacher, generator)
                target = own[classes]
            figures, images = self._measure(trainer, pl_module, walk, self.num_samples, target)
            if teacher is not None and generator is teacher and steps == teacher.steps[0]:
                own[teacher.num_classes] = images
            row |= figures
            if times:
                row |= {"ms_per_image": times[index], "speed_up": times[0] / times[index]}
            rows.append(row)
            # Of two samplers at the same steps the teacher's own comes first, and is shown.
            picture = f"final_{name}_{steps}.png"
            if folder is not None and trainer.is_global_zero and picture not in pictures:
                path = folder / "samples" / picture
                save_grid(shown(images), path)
                show_picture(trainer, f"samples/{path.stem}", path, pl_module.iteration)
                pictures.add(picture)
        if folder is not None and trainer.is_global_zero:
            write_json(folder / "summary.json", rows)
            print_rows(rows)

    def _walks(self, module: Generates, teacher: Generator | None) -> list[Walk]:
        """The teacher in full, the teacher in fewer steps and at the students', the students."""
        students = sorted(
            (
                (name, generator, steps)
                for name, generator in module.generators().values()
                for steps in generator.steps
            ),
            key=lambda walk: -walk[2],
        )
        if teacher is None:
            return students
        walks: list[Walk] = [
            ("teacher", teacher, steps)
            for steps in dict.fromkeys(self.teacher_steps or [teacher.steps[0]])
        ]
        for _, student, steps in students:
            # As the student walks; a map from level to level has no walk for a teacher.
            grid, algorithm = student.grid, student.algorithm
            if algorithm in ("consistency", "jump"):
                grid, algorithm = teacher.grid, "euler"
            forced = copy.copy(teacher)  # with all else that it samples by, such as a decoder
            forced.grid, forced.algorithm = grid, algorithm
            forced.steps, forced.any_steps = (steps,), False
            walk = ("teacher", forced, steps)
            if not any(_same_walk(walk, other) for other in walks):
                walks.append(walk)
        # What speed is measured against stays the first.
        return [walks[0], *sorted(walks[1:], key=lambda walk: -walk[2]), *students]

    def _times(self, walks: list[Walk], device: torch.device) -> list[float]:
        if self.latency_batch == 0:
            return []
        return latencies([(g, steps) for _, g, steps in walks], self.latency_batch, device)

    def _measure(
        self,
        trainer: L.Trainer,
        module: DistillationModule,
        walk: Walk,
        count: int,
        target: Tensor | None = None,
    ) -> tuple[Row, Tensor]:
        """The row of one walk, every rank taking its share of the batches, and its samples.

        ``target`` holds the teacher's samples from the same noise and labels for the gap to them.
        """
        if self._metrics is None:
            self._metrics = self._make_metrics(trainer, module.device)
        _, generator, steps = walk
        gap = None if target is None else TeacherGap(self._metrics.pixels).to(module.device)
        drawn: list[Tensor] = []
        done = 0
        for noise, condition in self._batches(trainer, module, generator, count):
            images = generator(noise, condition, steps)
            self._metrics.update(images, condition.get("label"))
            if gap is not None and target is not None:
                gap.update(images, target[done : done + len(images)].to(images.device))
            drawn.append(images.cpu())  # thousands of pictures would fill an accelerator
            done += len(images)
        row = self._metrics.row()
        if gap is not None:
            row["teacher_gap"] = float(gap.compute()["squared"])
        return row, torch.cat(drawn) if drawn else torch.empty(0)

    def _teacher_samples(
        self,
        trainer: L.Trainer,
        module: DistillationModule,
        teacher: Generator,
        student: Generator,
    ) -> Tensor:
        """This rank's share of the teacher's samples from the noise and labels of ``student``."""
        batches = self._batches(trainer, module, student, self.num_samples)
        drawn = [teacher(noise, condition).cpu() for noise, condition in batches]
        return torch.cat(drawn) if drawn else torch.empty(0)

    def _batches(
        self, trainer: L.Trainer, module: DistillationModule, generator: Generator, count: int
    ) -> Iterator[tuple[Tensor, Condition]]:
        """This rank's share of the noise and the labels."""
        batches = noise_for(generator, count, self.batch_size, self.seed, module.device)
        for index, batch in enumerate(batches):
            if index % trainer.world_size == trainer.global_rank:
                yield batch

    def _make_metrics(self, trainer: L.Trainer, device: torch.device) -> GenerationMetrics:
        data = data_of(trainer)
        place = (trainer.global_rank, trainer.world_size, device)
        forgetting = None
        if self.forgotten is not None and self.classifier is not None:
            forgetting = ForgettingMetrics(
                data.one_pass("reference"),
                data.shape,
                self.forgotten,
                self.classifier,
                self.features,
                *place,
            )
        return GenerationMetrics(
            data.one_pass("reference"),
            data.one_pass("heldout"),
            self.features,
            self.classifier,
            *place,
            judges=data.judges(),
            forgetting=forgetting,
        )
