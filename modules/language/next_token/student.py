"""What the methods share that teach a student its next-token law."""

from typing import Literal

from torch import Tensor, nn

from kdlight.core.ranks import joint_mean, joint_sum
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.losses.next_tokens import next_token_nll
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule


class StudentModule(TokenModule):
    """Base of the methods that learn the law of every next token from a teacher.

    Args:
        student: Learns.
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
        InputError: A weight is below 0.
    """

    def __init__(
        self,
        student: AutoregressiveModel,
        objective: Objective,
        optimizer: Optimization,
        iterations: int,
        likelihood: float,
        average: Literal["tokens", "sequences"],
        ema_half_life: float,
        accumulate: int,
        seed: int,
        max_non_finite: int,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        if likelihood < 0:
            raise InputError(f"likelihood: expected at least 0, found {likelihood}.")
        self.student = student
        self.objective = objective
        self.likelihood = likelihood
        self.over_sequences = average == "sequences"
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def descend(
        self,
        each: Tensor,
        logits: Tensor,
        tokens: Tensor,
        scored: Tensor,
        from_data: Tensor | None,
    ) -> None:
        """One update.

        Args:
            each: The objective of each token, (B, L).
            logits: Of the student, (B, L, V).
            tokens: (B, L) int64.
            scored: Which are learnt from the teacher, (B, L) bool.
            from_data: Which have their likelihood raised, (B, L) bool; None for none.
        """
        weights = self.weights(scored)
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

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("student", AutoregressiveGenerator(self.ema.module))}
