"""A student that a teacher's answers are bought for, round by round (PGKD, arXiv:2411.05045)."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.ranks import joint_mean
from kdlight.errors import InputError
from kdlight.networks.text.tagger import TokenTagger
from kdlight.selection.labelling import Chooser, InOrder, Labelling
from kdlight.teachers.answering import AnsweringTeacher
from kdlight.training.base import Batch
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.rounds import RoundsModule


@runtime_checkable
class HasPool(Protocol):
    """Data with texts that a teacher may be asked about."""

    pool: list[str]
    vocabulary: int

    def rows_of(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts as rows of tokens, with which are scored."""


class TeachingRounds(RoundsModule):
    """Rounds of: choose texts, ask the teacher, refuse what critics refuse, train.

    What was learnt in a round is learnt again in the next. Answers are in a ledger before they are
    used, and which texts were chosen is in the checkpoint: a run that was killed and goes on asks
    nothing twice and has the weights of one that was not. Every round leaves
    ``rounds/round_<n>.jsonl`` in the run's folder: texts, answers, and the critic that refused one.
    Of several ranks the first asks.

    Args:
        teacher: Is asked.
        student: Gives every token a tag.
        strategy: Makes questions of texts, and tags of answers.
        optimizer: Settings of the student's optimizer.
        asks: Texts that are asked about in a round.
        rounds: Rounds.
        round_iterations: Training batches of a round; the learning rate's schedule is a round's.
        chooser: Which texts; None for the first.
        ledger: File of questions and answers (``.jsonl``); None keeps them for this process alone.
        budget: Answers that may be paid for over all runs with this ledger; None for any number.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A number is out of range, or the student has another number of tags.
    """

    def __init__(
        self,
        teacher: AnsweringTeacher,
        student: TokenTagger,
        strategy: Labelling,
        optimizer: Optimization,
        asks: int = 200,
        rounds: int = 3,
        round_iterations: int = 200,
        chooser: Chooser | None = None,
        ledger: str | None = None,
        budget: int | None = None,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        if min(asks, rounds, round_iterations) < 1 or (budget is not None and budget < 1):
            raise InputError(
                "asks, rounds, round_iterations, budget: expected numbers above 0, found "
                f"{asks}, {rounds}, {round_iterations} and {budget}."
            )
        super().__init__(
            teacher,
            optimizer,
            rounds,
            round_iterations,
            ledger,
            budget,
            strategy.entities,
            accumulate,
            seed,
            max_non_finite,
        )
        if student.tags != 1 + 2 * len(strategy.types):
            raise InputError(
                f"student: expected {1 + 2 * len(strategy.types)} tags for the types "
                f"{', '.join(strategy.types)}, found {student.tags}."
            )
        self.strategy = strategy
        self.student = student
        self.chooser = chooser or InOrder()
        self.asks = asks
        self.refused: dict[str, int] = {}
        self.answers: list[tuple[str, Any]] = []
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        lesson = self.lesson()
        rows = self.noise.integers(len(batch["tokens"]), len(lesson["tokens"]))
        tokens, tags, mask = (lesson[name][rows] for name in ("tokens", "tags", "mask"))
        logits = self.student(tokens)
        nll = nn.functional.cross_entropy(logits.flatten(0, 1), tags.flatten(), reduction="none")
        loss = joint_mean(nll.reshape(tags.shape), mask.to(nll.dtype))
        self.optimize("student", loss)
        self.report({"nll": loss.detach(), "answers": float(sum(map(len, self.asked)))})

    def learnt(self) -> dict[str, Tensor]:
        data = data_of(self.trainer)
        self.answers, self.refused, kept = [], {}, []
        for number in range(self.round + 1):
            if number == len(self.asked):
                self.asked.append(self._choose(data))
            texts = [data.pool[index] for index in self.asked[number]]
            answers = self.bought(map(self.strategy.request, texts))
            self.asked[number] = self.asked[number][: len(answers)]
            judged = [
                (text, answer, self.strategy.judged(text, answer))
                for text, answer in zip(texts, answers, strict=False)
            ]
            self.keep_round(
                number,
                (
                    {"text": text, "answer": answer, "refused_by": critic}
                    for text, answer, critic in judged
                ),
            )
            self.answers += [(text, answer) for text, answer, _ in judged]
            for text, answer, critic in judged:
                if critic is None:
                    kept.append((text, answer))
                else:
                    self.refused[critic] = self.refused.get(critic, 0) + 1
        if not kept:
            raise InputError(
                f"critics: expected that some of {len(self.answers)} answers pass, found none."
            )
        rows = data.rows_of([text for text, _ in kept])
        length = rows["tokens"].shape[1]
        tags = torch.tensor([self.strategy.tags(text[:length], a, length) for text, a in kept])
        return {"tokens": rows["tokens"], "mask": rows["mask"], "tags": tags}

    def _choose(self, data: HasPool) -> list[int]:
        """Numbers of the texts of the next round."""
        before = {index for numbers in self.asked for index in numbers}
        others = torch.tensor([n for n in range(len(data.pool)) if n not in before])
        if not len(others):
            return []
        rows = data.rows_of([data.pool[number] for number in others.tolist()])
        self.student.eval()
        places = self.chooser(
            self.student, rows["tokens"].to(self.device), rows["mask"].to(self.device), self.asks
        )
        self.student.train()
        found: list[int] = self.trainer.strategy.broadcast(others[places].tolist())
        return found

    def setup(self, stage: str) -> None:
        """Refuse data without a pool, or of other tokens, before anything is asked.

        Raises:
            InputError: They are.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, HasPool):
            raise InputError(
                f"data: expected texts that a teacher may be asked about, found "
                f"{type(data).__name__}."
            )
        vocabulary = self.student.embedding.num_embeddings
        if data.vocabulary != vocabulary:
            raise InputError(
                f"data: expected the vocabulary of the student, {vocabulary}, found "
                f"{data.vocabulary}."
            )

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("student", self.ema.module)}

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"asked": [list(each) for each in self.asked]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.asked = [list(each) for each in state["asked"]]
