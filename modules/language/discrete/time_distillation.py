"""Self-distillation through time (Deschenaux & Gulcehre, SDTT, arXiv:2410.21035)."""

import copy

from torch import nn

from kdlight.core.ranks import joint_mean
from kdlight.discrete.denoiser import MaskedDenoiser, TokenDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.masking import mask_by_time
from kdlight.discrete.time_targets import walked_log_probs
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule


class TimeDistillation(TokenModule):
    """Halve the number of sampling steps of a masked model, round by round.

    From z at time t the teacher walks two steps; its law of a position is the one of the call in
    which the position was revealed. The student has to say as much at z:

        loss = mean over the masked of D(student(z), teacher along its walk)

    Then the student is the teacher and steps are twice as wide. All rounds run inside one ``fit``.
    What can be gained is bounded: the target's mean is close to what a well-fitted teacher says at
    z, so nothing is learnt of how the tokens of one step hang together.

    Args:
        teacher: The masked model as it samples.
        objective: The divergence D; the paper's default is the reverse one.
        optimizer: Settings of the student's optimizer; schedules span one round.
        teacher_steps: Steps of the first round's teacher.
        student_steps: Steps of the last round's student; ``teacher_steps`` over a power of 2.
        round_iterations: Training batches of a round.
        ema_half_life: Half-life of the student's average in updates, from which the next round
            starts.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The steps are not halved to ``student_steps``, or there is no round.
    """

    def __init__(
        self,
        teacher: TokenGenerator,
        objective: Objective,
        optimizer: Optimization,
        teacher_steps: int = 16,
        student_steps: int = 4,
        round_iterations: int = 500,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        rounds = (max(1, teacher_steps) // max(1, student_steps)).bit_length() - 1
        if rounds < 1 or student_steps * 2**rounds != teacher_steps:
            raise InputError(
                "student_steps: expected teacher_steps halved once or more, found "
                f"{student_steps} of {teacher_steps}."
            )
        iterations = rounds * round_iterations
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        denoiser: nn.Module = teacher.denoiser
        if not isinstance(denoiser, MaskedDenoiser):
            raise InputError(f"teacher: expected a masked model, found {type(denoiser).__name__}.")
        self.add_frozen("teacher", teacher)
        self.objective = objective
        self.teacher_steps, self.round_iterations = teacher_steps, round_iterations
        self.student = copy.deepcopy(denoiser).requires_grad_(True)
        self.ema = EMA(self.student, ema_half_life)
        self.average("student", self.ema)
        # Filled at the end of a round. Blank until then: a checkpoint holds no teacher.
        self.previous = copy.deepcopy(denoiser).requires_grad_(False).eval()
        for parameter in self.previous.parameters():
            parameter.zero_()

    @property
    def round(self) -> int:
        """Index of the current round, from 0; it stays at the last when all are done."""
        return min(self.iteration, self.iterations - 1) // self.round_iterations

    @property
    def steps(self) -> int:
        """Steps of the current round's student."""
        return self.teacher_steps >> (self.round + 1)

    def stage(self) -> tuple[int, int]:
        return self.iteration - self.round * self.round_iterations, self.round_iterations

    def describe_stage(self) -> str:
        return f"round {self.round + 1}: {2 * self.steps} steps to {self.steps}"

    @property
    def round_teacher(self) -> TokenDenoiser:
        """Whom the student learns from in this round."""
        teacher = self.get_teacher().denoiser if self.round == 0 else self.previous
        assert isinstance(teacher, TokenDenoiser)
        return teacher

    def step(self, batch: Batch) -> None:
        tokens, mask = batch["tokens"], self.student.vocabulary
        time = (self.noise.integers(len(tokens), self.steps) + 1).double() / self.steps
        # What is not scored, such as a prompt, is never masked.
        uniform = self.masked_uniform(tokens).masked_fill(~self.scored(batch), 2.0)
        seen = mask_by_time(tokens, time, uniform, mask)
        masked = seen == mask
        draws = self.noise.uniform(len(tokens), 2, 2, tokens.shape[1])
        target = walked_log_probs(self.round_teacher, seen, time, 0.5 / self.steps, draws)
        each = self.objective(self.student(seen), target, tokens, masked)
        loss = joint_mean(each, masked.to(each.dtype))
        self.optimize("student", loss)
        self.report({"divergence": loss.detach(), "student_steps": self.steps})

    def after_iteration(self) -> None:
        position, _ = self.stage()
        if position > 0 or self.iteration >= self.iterations:
            return
        # A new round: the student is the teacher now, and goes on from its average.
        self.previous.load_state_dict(self.ema.module.state_dict())
        self.student.load_state_dict(self.ema.module.state_dict())
        self.ema.restart(self.student)
        self.forget_optimizer("student")

    def teacher_generator(self) -> TokenGenerator:
        return self.get_teacher()

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        student = TokenGenerator(self.ema.module, "ancestral", (self.steps,))
        return {"ema.module": ("student", student)}
