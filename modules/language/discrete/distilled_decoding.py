"""Distilled Decoding (Liu et al., DD1, arXiv:2412.17153)."""

import torch

from kdlight.core.ranks import joint_mean
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.jumps import JumpGenerator, JumpModel, checked_starts
from kdlight.losses.next_tokens import next_token_nll
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule, check_sizes


class DistilledDecoding(TokenModule):
    """A student jumps to where a deterministic map takes the noise under an autoregressive teacher.

    The map eps -> q is made beforehand (``datamodules/text/token_pairs.py``), a teacher call a
    token. On its way it passes X_t = (q_1, .., q_(t-1), eps_t, .., eps_L):

        loss = mean over l >= t of -log p_student(q_l | X_t),    t one of ``starts``.

    The paper adds a perceptual distance of the decoded image, where tokens have a decoder.

    Args:
        teacher: The autoregressive model as it samples, to compare with.
        student: The model that jumps.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        starts: First place of every jump; drawn evenly in training.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other vocabularies or lengths, or the starts do not
            rise from 0.
    """

    def __init__(
        self,
        teacher: TokenGenerator,
        student: JumpModel,
        optimizer: Optimization,
        iterations: int = 1500,
        starts: tuple[int, ...] = (0,),
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        check_sizes(teacher, student)
        self.add_frozen("teacher", teacher)
        self.student = student
        self.starts = checked_starts(starts, student.length)
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        tokens, noise = batch["tokens"], batch["noise"]
        which = self.noise.integers(len(tokens), len(self.starts))
        first = torch.tensor(self.starts, device=tokens.device)[which]
        places = torch.arange(tokens.shape[1], device=tokens.device)
        asked = places >= first[:, None]
        seen = tokens.masked_fill(asked, self.student.vocabulary)
        logits = self.student(seen, noise)
        loss = joint_mean(next_token_nll(logits, tokens), asked.float())
        self.optimize("student", loss)
        hit = (logits.argmax(dim=2) == tokens)[asked].float().mean()
        self.report({"nll": loss.detach(), "hit": hit})

    def teacher_generator(self) -> TokenGenerator:
        return self.get_teacher()

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("student", JumpGenerator(self.ema.module, self.starts))}
