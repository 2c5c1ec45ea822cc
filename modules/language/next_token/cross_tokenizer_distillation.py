"""Teachers with another tokenizer than the student's (Boizard et al., ULD, arXiv:2402.12030)."""

from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import AutoregressiveModel, NextTokenModel
from kdlight.errors import InputError
from kdlight.losses.language.pointwise import SortedDistance
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.next_token.student import StudentModule


class CrossTokenizerDistillation(StudentModule):
    """Distils what a teacher of other tokens says where both stand behind the same text.

        loss = mean over places that meet of sum_i |p_(i) - q_(i)|
               + likelihood * mean over the scored tokens of -log student(x_t | x_<t)

    p_(i) are the teacher's probabilities in falling order, q_(i) the student's: how sure one is,
    not of what, so that the likelihood has to say which token it is. The paper pairs the t-th token
    of one with the t-th of the other; here places are paired by the text before them, as
    ``datamodules.text.two_tokenizers`` gives them, and places that meet none learn from the
    likelihood alone.

    Args:
        teacher: Gives the logits that are learnt from.
        student: Learns them.
        optimizer: Settings of the student's optimizer.
        objective: Compares laws over unlike vocabularies.
        iterations: Training batches.
        likelihood: Weight of the likelihood; the paper's is 1 / 1.5.
        average: A mean over all scored tokens of the joint batch, or first over a sequence's.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own tokens.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The teacher does not predict next tokens, or a weight is below 0.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: AutoregressiveModel,
        optimizer: Optimization,
        objective: SortedDistance | None = None,
        iterations: int = 1000,
        likelihood: float = 0.67,
        average: Literal["tokens", "sequences"] = "tokens",
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(
            student,
            objective or SortedDistance(),
            optimizer,
            iterations,
            likelihood,
            average,
            ema_half_life,
            accumulate,
            seed,
            max_non_finite,
        )
        if not isinstance(teacher, NextTokenModel):
            raise InputError(
                f"teacher: expected a model of next tokens, found {type(teacher).__name__}."
            )
        self.add_frozen("teacher", teacher)

    def step(self, batch: Batch) -> None:
        tokens, scored, meeting = batch["tokens"], self.scored(batch), batch["meeting"]
        with torch.no_grad():
            taught: Tensor = self.get_submodule("teacher")(batch["teacher_input"])
        place = meeting.clamp(min=0)[..., None].expand(*meeting.shape, taught.shape[2])
        logits = self.student(tokens)
        both = scored & (meeting >= 0)
        each = self.objective(logits, taught.gather(1, place), tokens, both)
        self.descend(each, logits, tokens, both, scored)
