"""BOOT (Gu et al. 2023, arXiv:2306.05544): data-free distillation by bootstrapping."""

from typing import Annotated, Literal

from torch import Tensor

from kdlight.core.ranges import NonNegativeFloat, PositiveInt, Probability, Range
from kdlight.diffusion.curricula import IndexLaw, UniformIndex
from kdlight.diffusion.denoisers import Condition, GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.diffusion.students import LikeTeacher, signal_student, student_of
from kdlight.errors import InputError
from kdlight.losses.bootstrap import bootstrap_pair, boundary_pair
from kdlight.losses.distances import Distance, SquaredL2
from kdlight.losses.progressive import Solver
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class Boot(FewStepModule):
    """Learn where a path from pure noise is at every level, from what one step above it says.

    The student reads noise alone and is asked for the signal at a level; its target is its own
    signal at the level above, taken one step down by the teacher. No data are needed: batches
    hold ``noise`` (B, ...) and, for a teacher with classes, ``label`` (B,). It samples in one call.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        levels: Steps of the Karras grid whose levels are learnt, the last step to 0. The student
            becomes this walk of the teacher. (The paper steps by a constant in continuous time.)
        rho: Curvature of the grid.
        solver: How the teacher steps from a level to the one below.
        index_law: Which pair of neighbouring levels is drawn; all alike if null, as in the paper.
        distance: Between student and target; the paper's is the squared error.
        relative: Whether errors are divided by the step, as in the paper, which gives weight to
            the many small steps at large noise; else signals are compared as they are.
        boundary_weight: Weight beta of the boundary loss, which ties the start of the paths to the
            teacher's estimate of pure noise.
        boundary_every: Iterations from one boundary loss to the next; 1 in the paper. The weight
            stays what it is on average.
        target: Whose signal the teacher takes down: the student's own, as in the paper, which
            needs no average for it, or the average that samples.
        student: A student of another shape, or how it differs from the teacher; null copies the
            teacher's network.
        dropout: Dropout of the copied network; null leaves the teacher's.
        guidance_scale: Guidance distilled in; 1 is none.
        ema_half_life: Half-life of the average that samples, in updates.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A setting is out of its range.
    """

    student: SignalDenoiser

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        iterations: int = 10_000,
        levels: Annotated[int, Range(2)] = 18,
        rho: float = 7.0,
        solver: Solver = "heun",
        index_law: IndexLaw | None = None,
        distance: Distance | None = None,
        relative: bool = True,
        boundary_weight: NonNegativeFloat = 1.0,
        boundary_every: PositiveInt = 1,
        target: Literal["student", "average"] = "student",
        student: SignalDenoiser | LikeTeacher | None = None,
        dropout: Probability | None = 0.0,
        guidance_scale: float = 1.0,
        ema_half_life: float = 500.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        if solver not in ("euler", "heun"):
            raise InputError(f"solver: expected euler or heun, found {solver!r}.")
        if target not in ("student", "average"):
            raise InputError(f"target: expected student or average, found {target!r}.")
        super().__init__(
            student_of(student, teacher, dropout, signal_student),
            {"student": optimizer},
            iterations,
            teacher=teacher,
            ema_half_life=ema_half_life,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        self.guided = GuidedDenoiser(teacher.denoiser, guidance_scale)
        self.add_frozen("guided", self.guided)
        grid = KarrasGrid(self.student.sigma_min, self.student.sigma_max, rho)
        self.levels = grid.sigmas(levels).flip(0)  # rising from 0
        self.solver = solver
        self.index_law = index_law or UniformIndex()
        self.distance = distance or SquaredL2()
        self.relative = relative
        self.boundary_weight = boundary_weight
        self.boundary_every = boundary_every
        self.target = target
        self._boundary: dict[str, Tensor] = {}

    def prepare(self, batch: Batch) -> tuple[Tensor, Condition]:
        """Unit noise (B, ...) and what its samples are conditioned on."""
        return batch["noise"], self.condition_of(batch)

    def step(self, batch: Batch) -> None:
        noise, condition = self.prepare(batch)
        levels = self.levels.to(noise.device)
        index = self.index_law(levels, self.noise.uniform(len(noise)))
        sigma_next, sigma = levels[index], levels[index + 1]
        target = self.student if self.target == "student" else self.ema.module
        assert isinstance(target, SignalDenoiser)
        pair = bootstrap_pair(
            self.student,
            target,
            self.guided,
            noise,
            sigma,
            sigma_next,
            condition,
            self.solver,
            self.relative,
        )
        loss = bootstrap = self.distance(*pair).mean()
        calls = 2.0 if self.solver == "heun" else 1.0
        if self.boundary_weight > 0:
            calls += 1 / self.boundary_every
            if self.iteration % self.boundary_every == 0:
                boundary = boundary_pair(self.student, self.guided, noise, condition)
                distance = self.distance(*boundary).mean()
                loss = loss + self.boundary_weight * self.boundary_every * distance
                self._boundary = {"boundary": distance.detach()}
        self.optimize("student", loss)
        # The last boundary loss and the mean of the teacher's evaluations a batch of this rank:
        # batches that are logged and batches with a boundary need never meet.
        evaluations = calls * self.guided.network_calls * len(noise)
        self.report(
            {"bootstrap": bootstrap.detach(), **self._boundary, "teacher_calls": evaluations}
        )
