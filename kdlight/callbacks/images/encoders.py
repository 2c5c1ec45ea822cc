"""Runs the probes of encoders when training ends."""

from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
from torch import Tensor

from kdlight.callbacks.images.probing import ProbingReport, part_of
from kdlight.callbacks.rows import Row
from kdlight.errors import InputError
from kdlight.metrics.images.probes import (
    AT_ONCE,
    by_parts,
    few_label_accuracy,
    few_per_class,
    head_similarity,
    linear_probe,
)
from kdlight.metrics.timing import median_seconds
from kdlight.networks.images.vit import TokenEncoder


@runtime_checkable
class HoldsEncoders(Protocol):
    """A method that ends in encoders."""

    def encoders(self) -> dict[str, TokenEncoder]:
        """Encoders by name, a teacher first."""


class EncoderReport(ProbingReport):
    """What encoders of images are good for, measured when training ends (and for ``test``).

    One row a model, printed, and written to ``summary.json``: ``linear_probe``, the accuracy of
    logistic regression on its features, trained on the data's labels; ``few_label_accuracy``, that
    of the whole network fine-tuned on ``labels_per_class`` labels (not of a teacher);
    ``head_similarity``, how alike its heads attend; weights and milliseconds an image.

    Args:
        images: The most training images that the probe learns from.
        labels_per_class: Labels of the fine-tuning.
        fine_tuning_steps: Its updates; 0 leaves it out.
        seed: Seed of the fine-tuning's head, the same for every run that is to be compared.

    Raises:
        InputError: A number is out of range; or, before training starts, a method without encoders
            or data without classes.
    """

    kind = HoldsEncoders
    wanted = "ends in encoders"

    def __init__(
        self,
        images: int = 10000,
        labels_per_class: int = 10,
        fine_tuning_steps: int = 50,
        seed: int = 1234,
    ) -> None:
        if images < 2 or labels_per_class < 1 or fine_tuning_steps < 0:
            raise InputError(
                "images, labels_per_class, fine_tuning_steps: expected numbers of at least 2, 1 "
                f"and 0, found {images}, {labels_per_class} and {fine_tuning_steps}."
            )
        self.images = images
        self.labels_per_class = labels_per_class
        self.fine_tuning_steps = fine_tuning_steps
        self.seed = seed

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        device = module.device
        known = part_of(trainer, "reference", device, self.images)
        held = part_of(trainer, "heldout", device, self.images)
        encoders = module.encoders()
        modes = {name: encoder.training for name, encoder in encoders.items()}
        rows = [self._row(name, each.eval(), known, held) for name, each in encoders.items()]
        first = held[0][:1]
        calls = [partial(each.features, first) for each in encoders.values()]
        times = median_seconds(calls, device)
        for row, spent in zip(rows, times, strict=True):
            row |= {"ms_per_image": 1000 * spent, "speed_up": times[0] / spent}
        for name, encoder in encoders.items():
            encoder.train(modes[name])
        return rows

    def _row(
        self,
        name: str,
        encoder: TokenEncoder,
        known: tuple[Tensor, Tensor],
        held: tuple[Tensor, Tensor],
    ) -> Row:
        features, test = (by_parts(encoder.features, image) for image, _ in (known, held))
        row: Row = {
            "model": name,
            "linear_probe": linear_probe(features, known[1], test, held[1]),
            "head_similarity": float(head_similarity(encoder.walk(held[0][:AT_ONCE]))),
            "parameters": sum(each.numel() for each in encoder.parameters()),
        }
        if name != "teacher" and self.fine_tuning_steps:
            few = few_per_class(known[1], self.labels_per_class)
            labelled = known[0][few], known[1][few]
            row["few_label_accuracy"] = few_label_accuracy(
                encoder, *labelled, *held, self.fine_tuning_steps, self.seed
            )
        return row
