"""What the methods have in common whose student samples in one or a few steps."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from kdlight.core.frozen import unfrozen
from kdlight.diffusion.augmentation import Augmentation
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import Algorithm
from kdlight.diffusion.sigmas import PrefixGrid
from kdlight.errors import InputError
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.diffusion.base import DiffusionModule


class FewStepModule(DiffusionModule):
    """Base of those methods: a student, its average, and how the average samples.

    Args:
        student: The denoiser to train.
        optimizers: Settings of each trained part; ``student`` is the first.
        iterations: Length of the run in training batches.
        teacher: Whom the student learns from or starts from, and is compared with.
        shape: Shape of one sample; the teacher's if there is one.
        first: Noise level of the first step, whatever noise the samples start from; the student's
            largest if null.
        intermediate: Falling noise levels at which a walk of more than one step goes on: n steps
            take the first n - 1.
        algorithm: How the student samples.
        ema_half_life: Half-life of the average that samples, in updates.
        augmentation: Augmentation the student is told of.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    student: Denoiser

    def __init__(
        self,
        student: Denoiser,
        optimizers: Mapping[str, Optimization],
        iterations: int,
        teacher: Generator | None = None,
        shape: Sequence[int] | None = None,
        first: float | None = None,
        intermediate: Sequence[float] = (),
        algorithm: Algorithm = "consistency",
        ema_half_life: float = 500.0,
        augmentation: Augmentation | None = None,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, optimizers, accumulate, seed, max_non_finite)
        if teacher is not None:
            if student.num_classes != teacher.denoiser.num_classes:
                raise InputError(
                    f"student: expected the teacher's {teacher.denoiser.num_classes} classes, "
                    f"found {student.num_classes}."
                )
            self.add_frozen("teacher", teacher)
            shape = teacher.shape
        if shape is None:
            raise InputError("shape: expected the shape of one sample, such as [1, 8, 8].")
        told = getattr(getattr(student, "network", None), "augment_dim", 0)
        if augmentation is not None and told != augmentation.dim:
            raise InputError(
                f"augmentation: expected a network with augment_dim {augmentation.dim}, which is "
                f"told what was done, found {told}: it would draw augmented samples."
            )
        first = student.sigma_max if first is None else first
        if not 0 < first <= student.sigma_max:
            raise InputError(
                f"first: expected a noise level above 0, at most the student's "
                f"{student.sigma_max:g}, found {first:g}."
            )
        # Complains about levels that do not fall.
        self._grid = PrefixGrid([first, *intermediate])
        self._algorithm = algorithm
        self._shape = tuple(shape)
        self.student = unfrozen(student)
        self.augmentation = augmentation
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def prepare(self, batch: Batch) -> tuple[Tensor, Condition]:
        """Clean data (B, ...), augmented if so configured, and what they are conditioned on."""
        x0, condition = batch["image"], self.condition_of(batch)
        if self.augmentation is not None:
            draws = self.noise.normal(x0.new_empty(len(x0), self.augmentation.draws))
            x0, condition["augment"] = self.augmentation(x0, draws, self.noise.uniform(len(x0)))
        return x0, condition

    def generators(self) -> dict[str, tuple[str, Generator]]:
        steps = tuple(range(1, self._grid.longest + 1))
        return {"ema.module": ("student", self.sampled(self.ema.module, steps))}

    def sampled(self, denoiser: Denoiser, steps: Sequence[int]) -> Generator:
        """A student's denoiser as it samples: what the teacher decodes, it decodes too."""
        teacher = self.teacher_generator()
        if teacher is not None:
            return teacher.of(denoiser, self._grid, self._algorithm, steps)
        return Generator(denoiser, self._grid, self._shape, self._algorithm, steps, any_steps=False)

    def condition_of(self, batch: Batch) -> Condition:
        """What a batch's samples are conditioned on: all that the student can be told."""
        return self.student.condition_of(batch)

    def teacher_generator(self) -> Generator | None:
        teacher = getattr(self, "teacher", None)
        assert teacher is None or isinstance(teacher, Generator)
        return teacher
