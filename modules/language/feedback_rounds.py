"""A classifier that a teacher writes texts for, by its mistakes (PGKD, arXiv:2411.05045)."""

import copy
import math
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.errors import InputError
from kdlight.networks.text.classifier import TextClassifier
from kdlight.selection.feedback import Feedback, Wish, Wishes
from kdlight.teachers.answering import AnsweringTeacher
from kdlight.training.base import Batch
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.encoders.text_classification import label_loss
from modules.language.rounds import RoundsModule


@runtime_checkable
class HasValidation(Protocol):
    """Data of few labelled texts, with others whose mistakes a teacher may be told about."""

    parts: tuple[dict[str, Tensor], dict[str, Tensor]]
    validation: dict[str, Tensor]
    classes: int
    vocabulary: int

    def rows_of(self, texts: list[Any]) -> dict[str, Tensor]:
        """Texts of a teacher as rows of tokens, with which are no padding."""


class FeedbackRounds(RoundsModule):
    """Rounds of: train, see what is got wrong, have the teacher write more of that.

    The first round trains on the labelled texts alone. Every further one asks for new texts by the
    mistakes on the validation texts, and trains on all there are, going on from the weights it has.
    What training ends in is the round whose validation likelihood is the best. Held-out texts
    choose nothing.

    Answers are in a ledger before they are used, and what was asked for is in the checkpoint: a run
    that was killed and goes on asks nothing twice and has the weights of one that was not. Every
    round leaves ``rounds/round_<n>.jsonl`` in the run's folder. Of several ranks the first asks.

    Args:
        teacher: Writes texts of a class.
        student: Learns to tell the classes.
        optimizer: Settings of the student's optimizer.
        wishes: What is asked for; None for :class:`~kdlight.selection.feedback.Feedback`.
        asks: Texts that are asked for in a round after the first; 0 for labels alone.
        rounds: Rounds, the first among them.
        round_iterations: Training batches of a round; the learning rate's schedule is a round's.
        ledger: File of questions and answers (``.jsonl``); None keeps them for this process alone.
        budget: Answers that may be paid for over all runs with this ledger; None for any number.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A number is out of range.
    """

    shardable: ClassVar[bool] = False  # the best round is copied parameter by parameter

    def __init__(
        self,
        teacher: AnsweringTeacher,
        student: TextClassifier,
        optimizer: Optimization,
        wishes: Wishes | None = None,
        asks: NonNegativeInt = 200,
        rounds: PositiveInt = 4,
        round_iterations: PositiveInt = 200,
        ledger: str | None = None,
        budget: PositiveInt | None = None,
        ema_half_life: float = 20.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            teacher,
            optimizer,
            rounds,
            round_iterations,
            ledger,
            budget,
            lambda text: None,
            accumulate,
            seed,
            max_non_finite,
        )
        self.wishes = wishes or Feedback()
        self.student = student
        self.asks = asks
        self.best = copy.deepcopy(student).requires_grad_(False)
        self.best_loss, self.best_round = math.inf, 0
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        lesson = self.lesson()
        rows = self.noise.integers(len(batch["tokens"]), len(lesson["tokens"]))
        tokens, mask, label = (lesson[name][rows] for name in ("tokens", "mask", "label"))
        weights = torch.ones(len(label), device=self.device)
        loss = label_loss(self.student(tokens, mask).logits, label, weights)
        self.optimize("student", loss)
        answers = float(sum(map(len, self.asked)))
        self.report({"cross_entropy": loss.detach(), "answers": answers})

    def after_iteration(self) -> None:
        """Keep the round that is best on the validation texts."""
        if self.iteration % self.round_iterations:
            return
        logits, label = self.validated()
        loss = float(nn.functional.cross_entropy(logits, label))
        if loss < self.best_loss:
            self.best_loss, self.best_round = loss, self.round - 1
            self.best.load_state_dict(self.ema.module.state_dict())

    @torch.no_grad()
    def validated(self) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the student's average on the validation texts, and their labels (N,)."""
        rows = data_of(self.trainer).validation
        tokens, mask, label = (
            rows[name].to(self.device).split(250) for name in ("tokens", "mask", "label")
        )
        model = self.ema.module.eval()
        found = [model(*each).logits.float() for each in zip(tokens, mask, strict=True)]
        return torch.cat(found), torch.cat(label)

    def learnt(self) -> dict[str, Tensor]:
        data = data_of(self.trainer)
        given = data.parts[0]
        made = {name: [given[name]] for name in ("tokens", "mask", "label")}
        for number in range(1, self.round + 1) if self.asks else ():
            if number > len(self.asked):
                wishes = self.wishes(*self.validated(), self.asks)
                self.asked.append(self.trainer.strategy.broadcast(wishes))
            texts = self._ask(number)
            self.asked[number - 1] = self.asked[number - 1][: len(texts)]
            if not texts:
                continue
            rows = data.rows_of(texts)
            rows["label"] = torch.tensor([wish.label for wish in self.asked[number - 1]])
            for name, parts in made.items():
                parts.append(rows[name])
        return {name: torch.cat(parts) for name, parts in made.items()}

    def _ask(self, number: int) -> list[Any]:
        """Answers to the first wishes of a round, as many as the budget allows; of rank 0."""
        requests = [
            {"label": wish.label, "instead_of": wish.instead_of, "number": [number, place]}
            for place, wish in enumerate(self.asked[number - 1])
        ]
        texts = self.bought(requests)
        told = zip(requests, texts, strict=False)
        self.keep_round(number, (request | {"text": text} for request, text in told))
        return texts

    def setup(self, stage: str) -> None:
        """Refuse data without validation texts, or of other tokens or classes.

        Raises:
            InputError: They are.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, HasValidation):
            raise InputError(
                "data: expected labelled texts with others to validate on "
                f"(FewLabelsDataModule), found {type(data).__name__}."
            )
        for size in ("vocabulary", "classes"):
            expected, found = getattr(self.student, size), getattr(data, size)
            if found != expected:
                raise InputError(
                    f"data: expected the {size} of the student, {expected}, found {found}."
                )

    def classifiers(self) -> dict[str, tuple[str, TextClassifier]]:
        """What training ends in, by its state-dict prefix."""
        return {"best": ("student", self.best)}

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.classifiers())

    def teacher_law(self, tokens: Tensor, mask: Tensor) -> Tensor | None:
        """None: the teacher writes texts and has no law of classes."""
        return None

    def get_extra_state(self) -> dict[str, Any]:
        asked = [[list(wish) for wish in each] for each in self.asked]
        found = {"asked": asked, "best_loss": self.best_loss, "best_round": self.best_round}
        return super().get_extra_state() | found

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.asked = [[Wish(*wish) for wish in each] for each in state["asked"]]
        self.best_loss, self.best_round = state["best_loss"], state["best_round"]
