"""Runs the metrics of classifiers: while they train, and when training ends."""

from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import lightning as L
import torch

from kdlight.callbacks.rows import JointRowsReport, Row, folder_of
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.errors import InputError
from kdlight.metrics.images.classification import ClassificationFit
from kdlight.metrics.timing import median_seconds
from kdlight.networks.images.classifier import CLASSES, Classifier
from kdlight.storage.files import write_json
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of


@runtime_checkable
class Classifies(Protocol):
    """A method that ends in classifiers."""

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        """Names and classifiers, by their state-dict prefix."""

    def teacher_classifier(self) -> Classifier | None:
        """The teacher, if there is one."""


class ClassificationReport(Ranged, JointRowsReport):
    """Quality, fidelity to the teacher and speed of the classifiers that a run trains.

    At every validation the student's figures over the held-out images
    (:class:`~kdlight.metrics.images.classification.ClassificationFit`) are logged as
    ``val/<figure>``. When training ends (and for ``test``): one row a model, the teacher first,
    printed, and written to ``summary.json``, with its number of weights and milliseconds an image.

    Data without classes leave what is measured against the teacher; data with ``groups`` of them,
    such as those of long tails, get the accuracy of each group besides.

    Args:
        latency_batch: Images at once when speed is measured; 0 leaves speed out.
        repeats: Calls of which the median is taken.

    Raises:
        InputError: A number is out of range; or, before training starts, a method without
            classifiers.
    """

    headline = (
        *("model", "top1", "top5", "balanced_accuracy", "accuracy_many", "accuracy_medium"),
        *("accuracy_few", "accuracy_seen", "accuracy_unseen", "ece", "agreement", "teacher_kl"),
        *("parameters", "ms_per_image", "speed_up"),
    )

    def __init__(self, latency_batch: NonNegativeInt = 1, repeats: PositiveInt = 20) -> None:
        self.latency_batch = latency_batch
        self.repeats = repeats

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Classifies):
            raise InputError(
                "trainer.callbacks: ClassificationReport: expected a method that ends in "
                f"classifiers, found {type(pl_module).__name__}."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = folder_of(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        data = data_of(trainer)
        known = {"class_names": data.class_names, "shape": list(data.shape)}
        write_json(folder / CLASSES, known)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, DistillationModule)
        assert isinstance(pl_module, Classifies)
        _, student = next(iter(pl_module.classifiers().values()))
        figures = self._figures(trainer, student, pl_module.teacher_classifier())
        logged = {f"val/{key}": value for key, value in figures.items()}
        logged["iteration"] = float(pl_module.iteration)
        pl_module.log_dict(logged, rank_zero_only=True)

    def rows(self, trainer: L.Trainer, module: L.LightningModule, folder: Path | None) -> list[Row]:
        assert isinstance(module, Classifies)
        teacher = module.teacher_classifier()
        models = list(module.classifiers().values())
        if teacher is not None:
            models.insert(0, ("teacher", teacher))
        rows: list[Row] = []
        for name, model in models:
            other = None if model is teacher else teacher
            row: Row = {"model": name, **self._figures(trainer, model, other)}
            row["parameters"] = sum(each.numel() for each in model.parameters())
            rows.append(row)
        if trainer.is_global_zero and self.latency_batch:
            self._add_speed(trainer, rows, [model for _, model in models], module.device)
        return rows

    @torch.no_grad()
    def _figures(
        self, trainer: L.Trainer, model: Classifier, teacher: Classifier | None
    ) -> dict[str, float]:
        """Figures over the held-out images, every rank taking its share."""
        data = data_of(trainer)
        device = next(model.parameters()).device
        labelled = data.num_classes > 0
        metric = ClassificationFit(
            model.num_classes, teacher is not None, labelled, getattr(data, "groups", None)
        ).to(device)
        training = model.training
        model.eval()
        for batch in data.heldout_dataloader():
            image, label = batch["image"].to(device), batch["label"].to(device)
            label = label if labelled else torch.full_like(label, -1)
            taught = None if teacher is None else teacher(image)
            metric.update(model(image), label, taught)
        model.train(training)
        figures = metric.compute()
        return {key: float(figures[key]) for key in metric.names}

    @torch.no_grad()
    def _add_speed(
        self,
        trainer: L.Trainer,
        rows: list[Row],
        models: list[Classifier],
        device: torch.device,
    ) -> None:
        """Milliseconds an image of every row, and how many times as fast as the first."""
        data = data_of(trainer)
        image = torch.zeros(self.latency_batch, *data.shape, device=device)
        modes = [model.training for model in models]
        calls = [partial(model.eval(), image) for model in models]
        times = median_seconds(calls, device, self.repeats)
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
        for row, spent in zip(rows, times, strict=True):
            row["ms_per_image"] = 1000 * spent / self.latency_batch
            row["speed_up"] = times[0] / spent
