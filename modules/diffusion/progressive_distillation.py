"""Progressive distillation (Salimans & Ho 2022, arXiv:2202.00512)."""

import bisect
import copy
import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import Denoiser, GuidedDenoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.rounds import grids_of_rounds, lengths_of_rounds
from kdlight.diffusion.sigmas import FixedGrid, Grid
from kdlight.diffusion.students import LikeTeacher, copy_of, student_of, unguided
from kdlight.errors import InputError
from kdlight.losses.denoising import Weighting, weight_of
from kdlight.losses.distances import Distance, SquaredL2
from kdlight.losses.progressive import Solver, implied_x0, teacher_walk
from kdlight.storage.files import load_weights
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.diffusion.base import DiffusionModule


class ProgressiveDistillation(DiffusionModule):
    """Halve the number of sampling steps, round by round.

    In each round a student learns to do in one DDIM step what its teacher does in two; then the
    student is the next round's teacher. All rounds run inside one ``fit``; each restarts the
    student from its teacher, the optimizer, the average and the learning-rate schedule.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer; schedules span one round.
        teacher_steps: Steps of the teacher's walk in the first round, any number above
            ``student_steps``; an odd number of steps is halved upwards.
        student_steps: Steps of the last round's student.
        round_iterations: Training batches of every round, or of each round in turn.
        grid: Noise levels of the teacher's walk; the student's are every second one. Default:
            the teacher's own grid. (The paper's is :class:`kdlight.diffusion.sigmas.CosineGrid`.)
        student: A student of another shape, trained from where it stands, or how it differs from
            the teacher; None copies the teacher without its dropout (of a guided one the network
            alone: the first round distils the guidance in).
        copy_weights: Load the teacher's weights into the given ``student`` (same network,
            another prediction).
        distance: Of the student's x0 from its target; the paper's squared L2 by default. A norm,
            ``PseudoHuber``, leaves fewer blends where the student cannot reach every target: Lee et
            al. 2024 (arXiv:2405.20320) find so for rectified flows.
        weighting: Weight of the x0 error (the paper's section 4); the paper finds
            ``truncated_snr`` and ``v`` to work, and ``snr`` to fail at few steps.
        first_solver: Solver of the teacher in the first round; later rounds are Euler, the step
            the students are trained for.
        guidance_scale: Guidance distilled in by the first round; 1 is none (the two-stage
            method of Meng et al. 2022, arXiv:2210.03142, at one fixed scale).
        next_teacher: Whether the next round starts from the average or from the raw weights. The
            last round always ends in its average.
        ema_half_life: Half-life of the student's average, in updates.
        keep: Rounds, by their student's steps, whose students stay in the checkpoint.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        teacher_steps: int = 16,
        student_steps: int = 1,
        round_iterations: int | list[int] = 1000,
        grid: Grid | None = None,
        student: Denoiser | LikeTeacher | None = None,
        copy_weights: bool = False,
        distance: Distance | None = None,
        weighting: Weighting = "truncated_snr",
        first_solver: Solver = "euler",
        guidance_scale: float = 1.0,
        next_teacher: Literal["average", "raw"] = "average",
        ema_half_life: float = 200.0,
        keep: Sequence[int] = (4, 2, 1),
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        if guidance_scale != 1 and not teacher.denoiser.conditions:
            raise InputError(
                f"guidance_scale: expected 1 for a teacher without classes, found {guidance_scale}."
            )
        levels = (grid or teacher.grid).sigmas(teacher_steps)
        grids = grids_of_rounds(levels, teacher_steps, student_steps)
        lengths = lengths_of_rounds(round_iterations, len(grids) - 1)
        super().__init__(sum(lengths), {"student": optimizer}, accumulate, seed, max_non_finite)
        self.grids = grids
        self.lengths = lengths
        self._ends = list(itertools.accumulate(lengths))
        self.distance = distance or SquaredL2()
        self.weighting = weighting
        self.first_solver = first_solver
        self.next_teacher = next_teacher
        self.add_frozen("teacher", teacher)
        self.add_frozen("guided_teacher", GuidedDenoiser(teacher.denoiser, guidance_scale))
        self.student = _student_of(teacher, student, copy_weights)
        self.sigma_data = float(getattr(self.student, "sigma_data", 1.0))
        self.ema = EMA(self.student, ema_half_life)
        self.average("student", self.ema)
        # Filled at the end of a round. Blank until then: a checkpoint holds no teacher.
        self.previous = _blank(self.student)
        kept = [len(levels) - 1 for levels in self.grids[1:-1] if len(levels) - 1 in keep]
        self.finished = nn.ModuleDict({str(steps): _blank(self.student) for steps in kept})

    @property
    def round(self) -> int:
        """Index of the current round, from 0; it stays at the last when all are done."""
        return min(bisect.bisect_right(self._ends, self.iteration), len(self.lengths) - 1)

    def stage(self) -> tuple[int, int]:
        return self.iteration - sum(self.lengths[: self.round]), self.lengths[self.round]

    def describe_stage(self) -> str:
        before, after = (len(levels) - 1 for levels in self.grids[self.round : self.round + 2])
        return f"round {self.round + 1} of {len(self.lengths)}: {before} steps to {after}"

    @property
    def round_teacher(self) -> Denoiser:
        """Whom the student learns from in this round."""
        teacher = self.guided_teacher if self.round == 0 else self.previous
        assert isinstance(teacher, Denoiser)
        return teacher

    def step(self, batch: Batch) -> None:
        # Algorithm 2 of the paper; z_t is x / sqrt(1 + sigma^2).
        x0, condition = batch["image"], self.student.condition_of(batch)
        teacher_levels, student_levels = self.grids[self.round], self.grids[self.round + 1]
        interval = self.noise.integers(len(x0), len(student_levels) - 1)
        index = 2 * interval[:, None] + torch.arange(3, device=x0.device)
        levels = teacher_levels.to(x0.device)[index.clamp(max=len(teacher_levels) - 1)]
        sigma, sigma_end = levels[:, 0], levels[:, -1]
        x = x0 + expand(sigma, x0).to(x0.dtype) * self.noise.normal(x0)
        with torch.no_grad():
            solver = self.first_solver if self.round == 0 else "euler"
            x_end = teacher_walk(self.round_teacher, x, levels, condition, solver)
            target = implied_x0(x, x_end, sigma, sigma_end)
        estimate = self.student(x, sigma, condition)
        error = self.distance(estimate, target)
        loss = (weight_of(sigma, self.weighting, self.sigma_data).to(error) * error).mean()
        self.optimize("student", loss)
        self.report({"distillation": loss.detach(), "student_steps": len(student_levels) - 1})

    def after_iteration(self) -> None:
        position, _ = self.stage()
        if position > 0 or self.iteration >= self.iterations:
            return
        # A new round: the student is the teacher now, and starts again from itself.
        taught = self.ema.module if self.next_teacher == "average" else self.student
        self.previous.load_state_dict(taught.state_dict())
        steps = str(len(self.grids[self.round]) - 1)
        if steps in self.finished:
            self.finished[steps].load_state_dict(taught.state_dict())
        self.student.load_state_dict(taught.state_dict())
        self.ema.restart(self.student)
        self.forget_optimizer("student")

    def generators(self) -> dict[str, tuple[str, Generator]]:
        found = {"ema.module": self._generator(self.ema.module, self.round + 1)}
        for index in range(1, self.round + 1):
            steps = str(len(self.grids[index]) - 1)
            if steps in self.finished:
                found[f"finished.{steps}"] = self._generator(self.finished[steps], index)
        return {prefix: ("student", generator) for prefix, generator in found.items()}

    def _generator(self, denoiser: nn.Module, grid: int) -> Generator:
        assert isinstance(denoiser, Denoiser)
        levels = self.grids[grid]
        steps = len(levels) - 1
        return self.get_teacher().of(denoiser, FixedGrid(levels.tolist()), "euler", (steps,))

    def get_teacher(self) -> Generator:
        """The external teacher."""
        teacher = self.teacher
        assert isinstance(teacher, Generator)
        return teacher

    def teacher_generator(self) -> Generator:
        return self.get_teacher()


def _blank(denoiser: Denoiser) -> Denoiser:
    blank = copy.deepcopy(denoiser).requires_grad_(False).eval()
    # A copy with adapters shares what lies under them.
    shared = {id(parameter) for parameter in denoiser.parameters()}
    for parameter in blank.parameters():
        if id(parameter) not in shared:
            parameter.zero_()
    return blank


def _student_of(
    teacher: Generator, student: Denoiser | LikeTeacher | None, copy_weights: bool
) -> Denoiser:
    # Without the teacher's dropout: it regresses onto what it can reach, and has data without end.
    made = student_of(student, teacher, 0.0, copy_of)
    if made.num_classes != teacher.denoiser.num_classes:
        raise InputError(
            f"student: expected the teacher's {teacher.denoiser.num_classes} classes, "
            f"found {made.num_classes}."
        )
    if isinstance(made, VPDenoiser) and made.prediction == "epsilon":
        raise InputError(
            "student: an epsilon prediction says nothing about x0 at pure noise, so few steps "
            "cannot be distilled into it; expected v_prediction or sample."
        )
    if student is not None and copy_weights:
        source = "copy_weights: the student takes the teacher's"
        load_weights(made, unguided(teacher).state_dict(), source)
    return made
