"""Distillation from laws of a teacher that were written before (Shum et al., arXiv:2408.12168)."""

from typing import Literal

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.losses.language.objective import Divergence
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.next_token.student import StudentModule


class CachedDistillation(StudentModule):
    """Distils the likeliest tokens that a teacher gave, without the teacher.

        loss = mean over the scored tokens of D(teacher, student)
               + likelihood * mean of -log student(x_t | x_<t)

    D is between laws over the K kept tokens and one class for all others; with all tokens kept it
    is the loss of LogitDistillation. With five of a recalibrated teacher it is FIRST (whose program
    normalises probabilities by a second softmax). Data: ``datamodules.text.taught``.

    Args:
        student: Learns.
        objective: The divergence D; its temperature is the student's, that of the teacher was
            chosen when its laws were written.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        likelihood: Weight of the likelihood of the sequences.
        average: A mean over all scored tokens of the joint batch, or first over a sequence's.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own tokens.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The objective asks for a teacher's logits, or a weight is below 0.
    """

    def __init__(
        self,
        student: AutoregressiveModel,
        objective: Divergence,
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
        if type(objective).from_logits is not Divergence.from_logits:
            raise InputError(
                f"objective: {type(objective).__name__} asks for a teacher's logits, of which a "
                "cache holds the likeliest; expected a divergence of two laws, such as ForwardKL."
            )

    def step(self, batch: Batch) -> None:
        tokens, scored = batch["tokens"], self.scored(batch)
        log_p, kept = batch["teacher_log_probs"], batch["teacher_tokens"].long()
        logits = self.student(tokens)
        assert isinstance(self.objective, Divergence)
        each = self.objective.of_kept(logits, log_p, kept, tokens, scored)
        self.descend(each, logits, tokens, scored, scored)
