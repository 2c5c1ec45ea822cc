"""A language model learns the next-token law of a larger one (Hinton et al., arXiv:1503.02531)."""

from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import (
    AutoregressiveGenerator,
    AutoregressiveModel,
    NextTokenModel,
)
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.next_token.student import StudentModule


class LogitDistillation(StudentModule):
    """Distils what a teacher says of every next token of given sequences.

        loss = mean over the scored tokens of objective(teacher, student)
               + likelihood * mean of -log student(x_t | x_<t)

    Which loss is the objective's: the methods of the literature differ in it and in who wrote the
    sequences, which are the data's here (ground truth, or what a teacher wrote before: SeqKD is
    that with ``likelihood`` alone).

    Args:
        teacher: Gives the logits that are learnt from.
        student: Learns them.
        objective: What is minimised.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        likelihood: Weight of the likelihood of the sequences.
        average: A mean over all scored tokens of the joint batch, whatever rank they are on, or
            first over those of a sequence, so that short sequences count as much as long ones.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own tokens.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other vocabularies, or a weight is below 0.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: AutoregressiveModel,
        objective: Objective,
        optimizer: Optimization,
        iterations: int = 1000,
        likelihood: float = 0.0,
        average: Literal["tokens", "sequences"] = "tokens",
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            student,
            objective,
            optimizer,
            iterations,
            likelihood,
            average,
            ema_half_life,
            accumulate,
            seed,
            max_non_finite,
        )
        check_pair(teacher, student)
        self.add_frozen("teacher", teacher)

    def step(self, batch: Batch) -> None:
        scored = self.scored(batch)
        self.learn(batch["tokens"], scored, scored)

    def learn(self, tokens: Tensor, scored: Tensor, from_data: Tensor | None) -> None:
        """One update.

        Args:
            tokens: (B, L) int64.
            scored: Which are learnt from the teacher, (B, L) bool.
            from_data: Which have their likelihood raised, (B, L) bool; None for none.
        """
        with torch.no_grad():
            taught = self.get_submodule("teacher")(tokens)
        logits = self.student(tokens)
        each = self.objective(logits, taught, tokens, scored)
        self.descend(each, logits, tokens, scored, from_data)

    def teacher_generator(self) -> TokenGenerator:
        return AutoregressiveGenerator(self.get_submodule("teacher"))


def check_pair(teacher: nn.Module, student: nn.Module) -> None:
    """Both speak of the same tokens.

    Raises:
        InputError: They have other vocabularies, or the teacher does not predict next tokens.
    """
    assert isinstance(student, NextTokenModel)
    if not isinstance(teacher, NextTokenModel):
        raise InputError(
            f"teacher: expected a model of next tokens, found {type(teacher).__name__}."
        )
    if teacher.vocabulary != student.vocabulary:
        raise InputError(
            f"student: expected the teacher's vocabulary of {teacher.vocabulary} tokens, found "
            f"{student.vocabulary}; of one tokenizer both models take its size as vocabulary, and "
            "CrossTokenizerDistillation learns from a teacher of another."
        )
