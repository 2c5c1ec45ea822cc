"""Distillation on what the student itself writes (Agarwal et al., GKD, arXiv:2306.13649)."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlight.core.whole import whole
from kdlight.discrete.autoregressive import AutoregressiveModel, NextTokenModel, left_to_right
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.next_token.logit_distillation import LogitDistillation

FINE = 2**30
"""Resolution of the coin that says who writes a batch."""


class OnPolicyDistillation(LogitDistillation):
    """Batches are the data's, or written anew by the student or by the teacher.

    One coin a batch, the same on every rank, says who writes (algorithm 1). Written are the scored
    places, behind the prompt, at temperature 1; no gradient runs through the writing. With the
    student as a draft and its target as teacher it is DistillSpec (arXiv:2310.08461). The
    likelihood is raised of tokens of the data alone: of its own it would learn to repeat itself.

    Args:
        teacher: Gives the logits that are learnt from.
        student: Learns them.
        objective: What is minimised.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        student_share: Share of batches that the student writes.
        teacher_share: Share of batches that the teacher writes.
        prompt: Tokens of a row that are kept at least, beside what is not scored.
        end: Token that ends a sequence; what is written behind the first is not scored. None where
            sequences fill their rows.
        likelihood: Weight of the likelihood of the data.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own tokens.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other vocabularies, or a share is out of range.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: AutoregressiveModel,
        objective: Objective,
        optimizer: Optimization,
        iterations: int = 1000,
        student_share: float = 0.5,
        teacher_share: float = 0.0,
        prompt: int = 0,
        end: int | None = None,
        likelihood: float = 0.0,
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            teacher,
            student,
            objective,
            optimizer,
            iterations,
            likelihood,
            ema_half_life=ema_half_life,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        if min(student_share, teacher_share) < 0 or student_share + teacher_share > 1:
            raise InputError(
                "student_share, teacher_share: expected numbers of at least 0 whose sum is at most "
                f"1, found {student_share} and {teacher_share}."
            )
        self.student_share, self.teacher_share = student_share, teacher_share
        self.prompt, self.end = prompt, end

    def step(self, batch: Batch) -> None:
        tokens, scored = batch["tokens"], self.scored(batch)
        coin = self.noise.common(FINE) / FINE
        if coin < self.student_share:
            with resting(self.student):
                tokens, scored = self.rewritten(self.student, tokens, scored)
        elif coin < self.student_share + self.teacher_share:
            teacher = self.get_submodule("teacher")
            assert isinstance(teacher, NextTokenModel)
            tokens, scored = self.rewritten(teacher, tokens, scored)
        own = coin < self.student_share + self.teacher_share
        self.learn(tokens, scored, None if own else scored)

    def rewritten(
        self, writer: NextTokenModel, tokens: Tensor, scored: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scored places behind the prompt, written anew; and which of them are scored.

        Args:
            writer: Writes.
            tokens: (B, L) int64.
            scored: (B, L) bool.
        """
        asked = scored.clone()
        asked[:, : self.prompt] = False
        start = tokens.masked_fill(asked, writer.vocabulary)
        draws = RowDraws(self.noise.integers(len(tokens), 2**62), seed=0)
        assert isinstance(writer, nn.Module)
        with whole(writer):  # ranks call it as often as their rows ask for
            written = left_to_right(writer, start, draws).tokens
        if self.end is None:
            return written, asked
        ended = asked & torch.eq(written, self.end)
        behind = ended.cumsum(dim=1) - ended.long() > 0
        return written, asked & ~behind


@contextlib.contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Without dropout inside the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
