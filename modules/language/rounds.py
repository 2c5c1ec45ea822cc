"""What methods share whose student learns from answers that are bought round by round."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.core.ranges import PositiveInt
from kdlight.selection.ledger import Ledger
from kdlight.storage.atomic import atomic_path
from kdlight.teachers.answering import AnsweringTeacher, name_of
from kdlight.training.base import DistillationModule
from kdlight.training.optim import Optimization


class RoundsModule(DistillationModule):
    """Rounds of asking and training: a stage is a round.

    Answers are in a ledger before they are used, and what was asked for is in :attr:`asked`, which
    a method keeps in its checkpoint: a run that was killed and goes on asks nothing twice and has
    the weights of one that was not. Of several ranks the first asks.

    Args:
        teacher: Is asked.
        optimizer: Settings of the part ``student``.
        rounds: Rounds.
        round_iterations: Training batches of a round.
        ledger: File of questions and answers; None keeps them for this process alone.
        budget: Answers that may be paid for over all runs with this ledger; None for any number.
        check: Raises :class:`InputError` on an answer of the ledger that is none.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Attributes:
        asked: What was asked for, by round.
    """

    asked: list[list[Any]]

    def __init__(
        self,
        teacher: AnsweringTeacher,
        optimizer: Optimization,
        rounds: PositiveInt,
        round_iterations: PositiveInt,
        ledger: str | None,
        budget: PositiveInt | None,
        check: Callable[[Any], Any],
        accumulate: int,
        seed: int,
        max_non_finite: int,
    ) -> None:
        total = rounds * round_iterations
        super().__init__(total, {"student": optimizer}, accumulate, seed, max_non_finite)
        self.teacher, self.round_iterations = teacher, round_iterations
        file = None if ledger is None else Path(ledger)
        self.ledger = Ledger(file, budget, check, name_of(teacher))
        self.asked = []
        self._lesson: dict[str, Tensor] = {}
        self._made = -1

    @property
    def round(self) -> int:
        """The current round, from 0."""
        return self.iteration // self.round_iterations

    def stage(self) -> tuple[int, int]:
        return self.iteration % self.round_iterations, self.round_iterations

    def describe_stage(self) -> str:
        return f"round {self.round + 1}, {sum(map(len, self.asked))} answers"

    def lesson(self) -> dict[str, Tensor]:
        """Rows that are learnt from in this round, by name, (N, ...)."""
        if self._made != self.round:
            self._lesson = {name: rows.to(self.device) for name, rows in self.learnt().items()}
            self._made = self.round
        return self._lesson

    def learnt(self) -> dict[str, Tensor]:
        """Ask for what this round needs, and give the rows of all rounds so far."""
        raise NotImplementedError

    def bought(self, requests: Iterable[Any]) -> list[Any]:
        """Answers to the first requests, as many as the budget allows; on every rank."""
        answers = self.ledger.ask_all(requests, self.teacher.answer) if not self.global_rank else []
        found: list[Any] = self.trainer.strategy.broadcast(answers)
        return found

    def keep_round(self, number: int, entries: Iterable[dict[str, Any]]) -> None:
        """Leave ``rounds/round_<number>.jsonl`` in the run's folder."""
        folder = self.trainer.log_dir if self.trainer.logger is not None else None
        if folder is None or self.global_rank:
            return
        with atomic_path(Path(folder) / "rounds" / f"round_{number}.jsonl") as temporary:
            lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
            temporary.write_text(lines, encoding="utf-8")
