"""Classifiers of texts or tokens learn what teachers' layers hold (Distiller, 2109.11105)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranks import joint_mean
from kdlight.errors import InputError
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.language.matching import Matching, Pairs, layer_pairs
from kdlight.losses.language.objective import above_zero
from kdlight.networks.text.classifier import TextClassifier
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.encoders.text_classification import check_data, counts, label_loss


class RepresentationDistillation(DistillationModule):
    """Distils a classifier from one or several teachers: outputs, layers, labels.

        loss = prediction * T^2 KL(p_T || q_T) + label * cross-entropy
               + intermediate * mean over teachers and pairs of layers of match(student, teacher)

    p_T is the mean of the teachers' laws at temperature T, of a text; with classifiers of tokens of
    each token that is no padding, all those of the joint batch counting as much. What compares two
    layers is a part: squared or angular distance of states, relations among tokens, or a bound on
    their mutual information. Several teachers, of unlike widths and depths but one tokenizer, are
    those of the Romanian DistilBERTs (arXiv:2112.12650).

    Args:
        teachers: Classifiers of the same classes and tokens, all of texts or all of tokens.
        student: Learns.
        optimizer: Settings of the student's optimizer, which also trains what compares layers.
        matching: What compares layers; None for outputs alone.
        layers: Which are compared: the student's spread evenly over the teacher's (``skip``),
            against its ``last`` ones, or pairs of (student, teacher), layers being counted from 1.
        iterations: Training batches.
        prediction: Weight of the teachers' outputs.
        label: Weight of the labels.
        intermediate: Weight of the layers.
        temperature: T.
        combine: Arithmetic mean of the teachers' ``probabilities``, or geometric, of ``logits``.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: There is no teacher, one has other classes or tokens, or a number is out of
            range.
    """

    def __init__(
        self,
        teachers: Sequence[TextClassifier],
        student: TextClassifier,
        optimizer: Optimization,
        matching: Matching | None = None,
        layers: Literal["skip", "last"] | Pairs = "skip",
        iterations: int = 1000,
        prediction: float = 1.0,
        label: float = 0.0,
        intermediate: float = 1.0,
        temperature: float = 2.0,
        combine: Literal["probabilities", "logits"] = "probabilities",
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        if not teachers or min(prediction, label, intermediate) < 0:
            raise InputError(
                "teachers, prediction, label, intermediate: expected a teacher and weights of at "
                f"least 0, found {len(teachers)} and {prediction}, {label}, {intermediate}."
            )
        for teacher in teachers:
            check_pair(teacher, student)
        self.temperature = above_zero("temperature", temperature)
        self.over_logits = combine == "logits"
        self.prediction, self.label, self.intermediate = prediction, label, intermediate
        self.teachers: nn.ModuleList
        self.add_frozen("teachers", nn.ModuleList(teachers))
        self.student = student
        self.pairs = [layer_pairs(student.depth, each.depth, layers) for each in teachers]
        self.matches = nn.ModuleList(
            matching.between(student.width, teacher.width)
            for teacher, pairs in zip(teachers, self.pairs, strict=True)
            for _ in pairs
            if matching is not None
        )
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def setup(self, stage: str) -> None:
        """Refuse data that are not for this student.

        Raises:
            InputError: They are not.
        """
        check_data(data_of(self.trainer), self.student, "student")

    def step(self, batch: Batch) -> None:
        tokens, mask = batch["tokens"], batch["mask"]
        with torch.no_grad():
            taught = [teacher(tokens, mask) for teacher in self.teachers]
        found = self.student(tokens, mask)
        log_p = self.combined([each.logits for each in taught], self.temperature)
        log_q = (found.logits.float() / self.temperature).log_softmax(dim=-1)
        each = self.temperature**2 * forward_kl(log_p, log_q)
        weights = counts(found.logits, mask)
        terms = {"prediction": joint_mean(each, weights)}
        if self.label:
            terms["label"] = label_loss(found.logits, batch["label"], weights)
        if len(self.matches):
            compared = [
                (found.states[own], each.states[other])
                for each, pairs in zip(taught, self.pairs, strict=True)
                for own, other in pairs
            ]
            distances = [
                match(own, other, mask)
                for match, (own, other) in zip(self.matches, compared, strict=True)
            ]
            terms["intermediate"] = torch.stack(distances).mean()
        loss = sum(getattr(self, name) * term for name, term in terms.items())
        self.optimize("student", loss)
        self.report({name: term.detach() for name, term in terms.items()})

    def combined(self, logits: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
        """Log of the mean of the teachers' laws, (B, C) or (B, L, C)."""
        laws = torch.stack([(each.float() / temperature).log_softmax(dim=-1) for each in logits])
        if self.over_logits:
            return laws.mean(dim=0).log_softmax(dim=-1)
        return laws.logsumexp(dim=0).log_softmax(dim=-1)

    def trained(self, name: str) -> list[nn.Parameter]:
        """The student's parameters, and those of what compares layers."""
        return [*self.student.parameters(), *self.matches.parameters()]

    def classifiers(self) -> dict[str, tuple[str, TextClassifier]]:
        """What training ends in, by its state-dict prefix."""
        return {"ema.module": ("student", self.ema.module)}

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.classifiers())

    def teacher_law(self, tokens: Tensor, mask: Tensor) -> Tensor | None:
        """Log of the mean of the teachers' laws at temperature 1, (B, C) or (B, L, C)."""
        return self.combined([each(tokens, mask).logits for each in self.teachers])


def check_pair(teacher: TextClassifier, student: TextClassifier) -> None:
    """Both read the same tokens and know the same classes, of texts or of tokens.

    Raises:
        InputError: They do not.
    """
    if teacher.per_token != student.per_token:
        raise InputError(
            f"student: expected a {type(teacher).__name__}, as the teacher is, found a "
            f"{type(student).__name__}."
        )
    for name in ("classes", "vocabulary"):
        expected, found = getattr(teacher, name), getattr(student, name)
        if expected != found:
            raise InputError(f"student: expected the teacher's {name}, {expected}, found {found}.")
