"""A student with an encoder learns from a decoder alone (Return of the Encoder, 2501.16273)."""

from typing import Any

import torch
from torch import nn

from kdlight.core.ranges import NonNegativeInt, PositiveFloat
from kdlight.discrete.autoregressive import AutoregressiveModel, Sharper
from kdlight.losses.language.objective import Objective
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.next_token.on_policy_distillation import OnPolicyDistillation, resting


class EncoderDistillation(OnPolicyDistillation):
    """Every batch is learnt twice: from its answers, and from the teacher on the student's own.

        loss = objective(teacher, student) on answers that the student wrote
               + likelihood * mean of -log student on the answers of the data

    Rows are sources with answers, of which the answers alone are scored. The paper's weights are
    0.9 and 0.1, hence the ``likelihood`` of 1/9; its text speaks of the reverse KL, its program
    has the forward one. The program counts padding behind the end of an answer; here it is not
    scored. The student may be any; the paper's is an
    :class:`~kdlight.networks.text.encoder_decoder.EncoderDecoder`.

    Args:
        teacher: Gives the logits that are learnt from.
        student: Learns them.
        objective: What is minimised.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        likelihood: Weight of the data's answers.
        temperature: Of the student's writing.
        top_k: Likeliest tokens that it writes with; 0 for all.
        kwargs: Of ``OnPolicyDistillation``, whose shares have no effect.

    Raises:
        InputError: Teacher and student have other vocabularies.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: AutoregressiveModel,
        objective: Objective,
        optimizer: Optimization,
        iterations: int = 1000,
        likelihood: float = 1 / 9,
        temperature: PositiveFloat = 0.9,
        top_k: NonNegativeInt = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            teacher, student, objective, optimizer, iterations, likelihood=likelihood, **kwargs
        )
        self.temperature, self.top_k = temperature, top_k

    def step(self, batch: Batch) -> None:
        tokens, scored = batch["tokens"], self.scored(batch)
        with resting(self.student):
            writer = Sharper(self.student, self.temperature, self.top_k)
            written, asked = self.rewritten(writer, tokens, scored)
        # A law that is no number draws V, whose likelihood nobody can look up.
        written = written.clamp(max=self.student.vocabulary - 1)
        none = torch.zeros_like(scored)
        self.learn(
            torch.cat([written, tokens]), torch.cat([asked, none]), torch.cat([none, scored])
        )
