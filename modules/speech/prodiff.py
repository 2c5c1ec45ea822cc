"""ProDiff: a diffusion speech synthesiser in half the steps (Huang et al. 2022, arXiv:2207.06389).

Progressive distillation (arXiv:2202.00512) of a denoiser that predicts clean spectrograms.
"""

import bisect
import copy
import itertools
from collections.abc import Sequence

import torch
from torch import nn

from kdlight.diffusion.denoisers import Denoiser, expand
from kdlight.diffusion.rounds import grids_of_rounds, lengths_of_rounds
from kdlight.diffusion.sigmas import FixedGrid
from kdlight.losses.progressive import implied_x0, teacher_walk
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.speech.synthesis import SynthesisModule, blank, weights_of


class ProDiff(SynthesisModule):
    """The student says in one step what its teacher says in two; then it is the teacher.

    Its front end is the teacher's and stays: frames are computed once, in evaluation mode (the
    released program leaves the dropout of its frozen front end on). Levels, and the walk from one
    to the next, are those that the student samples with; the released program teaches a walk that
    ends at the first level, shows it under other labels, and samples another one
    (``tests/modules/speech/test_prodiff.py``).

    Args:
        teacher: A synthesiser of any number of steps.
        optimizer: Settings of the student's optimizer; schedules span one round.
        student_steps: Steps of the last round's student; 2 in the paper.
        round_iterations: Training batches of every round, or of each round in turn.
        weights: Of each term: ``mel`` and ``ssim`` (1 and 1, equations 10 and 11; the released
            program has an L1 distance alone).
        ema_half_life: Half-life of the student's average, in updates; the paper has none.
        keep: Rounds, by their student's steps, whose students stay in the checkpoint.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        teacher: Synthesiser,
        optimizer: Optimization,
        student_steps: int = 1,
        round_iterations: int | list[int] = 200_000,
        weights: dict[str, float] | None = None,
        ema_half_life: float = 200.0,
        keep: Sequence[int] = (2, 1),
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        levels = teacher.grid.sigmas(teacher.steps[0])
        grids = grids_of_rounds(levels, teacher.steps[0], student_steps)
        lengths = lengths_of_rounds(round_iterations, len(grids) - 1)
        super().__init__(sum(lengths), {"student": optimizer}, accumulate, seed, max_non_finite)
        self.weights = weights_of(weights, {"mel": 1.0, "ssim": 1.0})
        self.grids, self.lengths = grids, lengths
        self._ends = list(itertools.accumulate(lengths))
        self.student = copy.deepcopy(teacher)
        self.student.front_end.requires_grad_(False)
        self.add_frozen("teacher", teacher)
        self.ema = EMA(self.student, ema_half_life)
        self.average("student", self.ema)
        # Filled at the end of a round. Blank until then: a checkpoint holds no teacher.
        self.previous = copy.deepcopy(teacher.denoiser)
        kept = [str(len(levels) - 1) for levels in grids[1:-1] if len(levels) - 1 in keep]
        self.finished = nn.ModuleDict({steps: copy.deepcopy(self.student) for steps in kept})
        for part in (self.previous, self.finished):
            blank(part)

    @property
    def round(self) -> int:
        """Index of the current round, from 0; it stays at the last when all are done."""
        return min(bisect.bisect_right(self._ends, self.iteration), len(self.lengths) - 1)

    def stage(self) -> tuple[int, int]:
        return self.iteration - sum(self.lengths[: self.round]), self.lengths[self.round]

    def describe_stage(self) -> str:
        before, after = (len(levels) - 1 for levels in self.grids[self.round : self.round + 2])
        return f"round {self.round + 1} of {len(self.lengths)}: {before} steps to {after}"

    def on_fit_start(self) -> None:
        self.check_data(self.get_teacher())

    def step(self, batch: Batch) -> None:
        # Algorithm 1.
        teacher = self.get_teacher()
        x0, condition = self.prepare(batch, teacher)
        with torch.no_grad():
            frames = teacher.front_end(condition).frames
        told = {"frames": frames, "mask": condition["mask"]}
        teacher_levels, student_levels = self.grids[self.round], self.grids[self.round + 1]
        interval = self.noise.integers(len(x0), len(student_levels) - 1)
        index = 2 * interval[:, None] + torch.arange(3, device=x0.device)
        levels = teacher_levels.to(x0.device)[index.clamp(max=len(teacher_levels) - 1)]
        sigma, sigma_end = levels[:, 0], levels[:, -1]
        x = x0 + expand(sigma, x0).to(x0.dtype) * self.noise.normal(x0)
        with torch.no_grad():
            x_end = teacher_walk(self.round_teacher, x, levels, told)
            target = implied_x0(x, x_end, sigma, sigma_end)
        terms = self.reconstruction(self.student.denoiser(x, sigma, told), target, told["mask"])
        self.optimize("student", torch.stack([*terms.values()]).sum())
        figures = {name: term.detach() for name, term in terms.items()}
        self.report(figures | {"student_steps": len(student_levels) - 1})

    @property
    def round_teacher(self) -> Denoiser:
        """Whom the student learns from in this round."""
        return self.get_teacher().denoiser if self.round == 0 else self.previous

    def after_iteration(self) -> None:
        position, _ = self.stage()
        if position > 0 or self.iteration >= self.iterations:
            return
        # A new round: the student is the teacher now, and starts again from itself.
        taught = self.ema.module
        self.previous.load_state_dict(taught.denoiser.state_dict())
        steps = str(len(self.grids[self.round]) - 1)
        if steps in self.finished:
            self.finished[steps].load_state_dict(taught.state_dict())
        self.student.load_state_dict(taught.state_dict())
        self.ema.restart(self.student)
        self.forget_optimizer("student")

    def synthesisers(self) -> dict[str, tuple[str, Synthesiser]]:
        found = {"ema.module": self.grids[self.round + 1]}
        for levels in self.grids[1 : self.round + 1]:
            if str(len(levels) - 1) in self.finished:
                found[f"finished.{len(levels) - 1}"] = levels
        return {
            prefix: ("student", self._sampled(prefix, levels)) for prefix, levels in found.items()
        }

    def _sampled(self, prefix: str, levels: torch.Tensor) -> Synthesiser:
        model = self.get_submodule(prefix)
        assert isinstance(model, Synthesiser)
        return model.of(FixedGrid(levels.tolist()), len(levels) - 1)

    def get_teacher(self) -> Synthesiser:
        """The synthesiser that is distilled."""
        teacher = self.teacher
        assert isinstance(teacher, Synthesiser)
        return teacher

    def teacher_synthesiser(self) -> Synthesiser:
        return self.get_teacher()
