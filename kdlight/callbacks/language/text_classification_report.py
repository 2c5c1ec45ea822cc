"""Runs the metrics of classifiers of texts and tokens: while they train, and when training ends."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor, nn

from kdlight.callbacks.rows import JointRowsReport, Row
from kdlight.errors import InputError
from kdlight.metrics.language.classification import TextClassificationFit
from kdlight.networks.text.classifier import TextClassifier
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of


@runtime_checkable
class ClassifiesTexts(Protocol):
    """A method that ends in classifiers of texts or of their tokens."""

    def classifiers(self) -> dict[str, tuple[str, TextClassifier]]:
        """Names and classifiers, by their state-dict prefix."""

    def teacher_law(self, tokens: Tensor, mask: Tensor) -> Tensor | None:
        """Log-probabilities of the teacher, or of the mean of several; None without one."""


class TextClassificationReport(JointRowsReport):
    """Quality of the classifiers that a run trains, and their loyalty to its teachers.

    Figures (:class:`~kdlight.metrics.language.classification.TextClassificationFit`) over the
    held-out texts, or over their tokens: the student's at every validation as ``val/<figure>``;
    when training ends (and for ``test``) one row a model, the teachers' common law first, printed,
    and written to ``summary.json``.

    Raises:
        InputError: Before training starts, a method without classifiers of texts.
    """

    headline = (
        *("model", "class_accuracy", "macro_f1", "golden_kl", "proxy_kl", "label_loyalty"),
        *("probability_loyalty", "ece", "smooth_ece"),
    )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, ClassifiesTexts):
            raise InputError(
                "trainer.callbacks: TextClassificationReport: expected a method that ends in "
                f"classifiers of texts, found {type(pl_module).__name__}."
            )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, DistillationModule)
        _, row = self._figures(trainer, pl_module)[-1]
        logged = {f"val/{key}": value for key, value in row.items()}
        logged["iteration"] = float(pl_module.iteration)
        pl_module.log_dict(logged, rank_zero_only=True)

    def rows(self, trainer: L.Trainer, module: L.LightningModule, folder: Path | None) -> list[Row]:
        assert isinstance(module, DistillationModule)
        return [{"model": name, **figures} for name, figures in self._figures(trainer, module)]

    @torch.no_grad()
    def _figures(
        self, trainer: L.Trainer, method: DistillationModule
    ) -> list[tuple[str, dict[str, float]]]:
        """Names and figures over the held-out texts, every rank taking its share."""
        assert isinstance(method, ClassifiesTexts)
        data = data_of(trainer)
        truth = data.posterior()
        if isinstance(truth, nn.Module):
            truth.to(method.device)
        ((name, model),) = method.classifiers().values()
        fits: dict[str, TextClassificationFit] = {}
        training = model.training
        model.eval()
        for batch in data.heldout_dataloader():
            moved = {key: value.to(method.device) for key, value in batch.items()}
            tokens, mask, label = moved["tokens"], moved["mask"], moved["label"]
            golden = None if truth is None else truth(tokens, mask)
            taught = method.teacher_law(tokens, mask)
            asked = [] if taught is None else [("teacher", taught, None)]
            for each, logits, teacher in [*asked, (name, model(tokens, mask).logits, taught)]:
                if each not in fits:
                    made = TextClassificationFit(
                        model.classes, golden is not None, teacher is not None
                    )
                    fits[each] = made.to(method.device)
                # Of tokens, those that are no padding.
                asked_for = mask if model.per_token else slice(None)
                laws = (None if some is None else some[asked_for] for some in (golden, teacher))
                fits[each].update(logits[asked_for], label[asked_for], *laws)
        model.train(training)
        found = {each: (fit.names, fit.compute()) for each, fit in fits.items()}
        return [
            (each, {key: float(figures[key]) for key in names})
            for each, (names, figures) in found.items()
        ]
