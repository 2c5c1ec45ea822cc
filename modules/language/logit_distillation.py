"""A language model learns the next-token law of a larger one (Hinton et al., arXiv:1503.02531)."""

from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranks import joint_mean, joint_sum
from kdlight.discrete.autoregressive import (
    AutoregressiveGenerator,
    AutoregressiveModel,
    NextTokenModel,
)
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.losses.next_tokens import next_token_nll
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule


class LogitDistillation(TokenModule):
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
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        check_pair(teacher, student)
        if likelihood < 0:
            raise InputError(f"likelihood: expected at least 0, found {likelihood}.")
        self.add_frozen("teacher", teacher)
        self.student = student
        self.objective = objective
        self.likelihood = likelihood
        self.over_sequences = average == "sequences"
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

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
        each, weights = self.objective(logits, taught, tokens, scored), self.weights(scored)
        loss = joint_mean(each, weights)
        terms = {"distillation": loss.detach()}
        if self.likelihood and from_data is not None:
            nll = joint_mean(next_token_nll(logits, tokens), self.weights(from_data))
            loss = loss + self.likelihood * nll
            terms["likelihood"] = nll.detach()
        total = (each.detach() * weights).sum()
        self.objective.observe(joint_sum(total), joint_sum(weights.sum()))
        self.optimize("student", loss)
        if self.updates:
            self.objective.advance((self.iteration + 1) / self.iterations)
        self.report(terms | self.objective.state())

    def weights(self, scored: Tensor) -> Tensor:
        """What every token counts, (B, L) float32."""
        count = scored.sum(dim=1, keepdim=True).clamp(min=1) if self.over_sequences else 1
        return scored.float() / count

    def trained(self, name: str) -> list[nn.Parameter]:
        """The student's parameters, and the objective's where it has any."""
        return [*self.student.parameters(), *self.objective.parameters()]

    def teacher_generator(self) -> TokenGenerator:
        return AutoregressiveGenerator(self.get_submodule("teacher"))

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("student", AutoregressiveGenerator(self.ema.module))}


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
            f"{student.vocabulary}."
        )
