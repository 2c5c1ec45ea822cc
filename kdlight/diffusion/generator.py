"""A denoiser with its grid and sampler: all that it takes to turn noise into samples."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.noise import mix
from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.diffusion.samplers import (
    SAMPLERS,
    Algorithm,
    StepCallback,
    function_evaluations,
)
from kdlight.diffusion.sigmas import Grid
from kdlight.errors import InputError


class Generator(Recorded, nn.Module):
    """What training ends in, what is sampled, measured, saved and exported.

    Args:
        denoiser: Estimates clean data.
        grid: Lays the noise levels of a walk of n steps.
        shape: Shape of one sample without the batch.
        algorithm: Which sampler walks the grid.
        steps: Step counts it is made for, the first is the default.
        any_steps: Whether other step counts make sense too (a teacher: yes; a student of one
            round of progressive distillation: no).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        grid: Grid,
        shape: Sequence[PositiveInt],
        algorithm: Algorithm = "heun",
        steps: Sequence[PositiveInt] = (18,),
        any_steps: bool = True,
    ) -> None:
        super().__init__()
        if algorithm not in SAMPLERS:
            raise InputError(
                f"algorithm: expected one of {', '.join(SAMPLERS)}, found {algorithm!r}."
            )
        self.denoiser = denoiser
        self.grid = grid
        self.shape = tuple(shape)
        self.algorithm = algorithm
        self.steps = tuple(steps)
        self.any_steps = any_steps

    @property
    def num_classes(self) -> int:
        """Number of classes it can be asked for; 0 if unconditional."""
        return self.denoiser.num_classes

    @property
    def provenance(self) -> dict[str, str]:
        """Where the weights came from."""
        return self.denoiser.provenance

    def surroundings(self) -> dict[str, Any]:
        """What else it takes to sample, beside denoiser, grid and sampler, by argument."""
        return {}

    def of(
        self,
        denoiser: Denoiser,
        grid: Grid,
        algorithm: Algorithm,
        steps: Sequence[int],
        any_steps: bool = False,
    ) -> "Generator":
        """A generator of another denoiser, such as a student's, in the same surroundings."""
        settings: dict[str, Any] = self.surroundings()
        return type(self)(
            denoiser=denoiser,
            grid=grid,
            shape=self.shape,
            algorithm=algorithm,
            steps=steps,
            any_steps=any_steps,
            **settings,
        )

    def accepts(self, steps: int) -> bool:
        """Whether this generator is made to sample in ``steps`` steps."""
        return self.any_steps or steps in self.steps

    def evaluations(self, steps: int) -> int:
        """Network calls (NFE) of a walk of ``steps`` steps."""
        return function_evaluations(self.algorithm, steps) * self.denoiser.network_calls

    def forward(
        self,
        noise: Tensor,
        condition: Condition | None = None,
        steps: int | None = None,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """Sample.

        Args:
            noise: Unit Gaussian noise, (B, *shape).
            condition: What to sample, such as ``{"label": (B,)}``.
            steps: Step count; the default is the first of ``self.steps``.
            callback: Called after each step.

        Returns:
            Samples, (B, *shape), in data units; images are around [-1, 1], not clamped.

        Raises:
            InputError: The generator cannot sample in that many steps.
        """
        steps = self.steps[0] if steps is None else steps
        if not self.accepts(steps):
            known = ", ".join(str(count) for count in sorted(self.steps))
            raise InputError(f"steps: this student samples in {known} steps, found {steps}.")
        sigmas = self.grid.sigmas(steps)
        start = self.denoiser.prior(noise, sigmas[0])
        return SAMPLERS[self.algorithm](self.denoiser, start, sigmas, condition, callback=callback)


@runtime_checkable
class Generates(Protocol):
    """A method that ends in generators: what callbacks sample, measure and draw."""

    def generators(self) -> dict[str, tuple[str, Generator]]:
        """Names and generators, by the state-dict prefix of their denoisers."""

    def teacher_generator(self) -> Generator | None:
        """The teacher at full quality, if there is one."""


def draw_labels(count: int, num_classes: int, offset: int = 0) -> Condition:
    """Labels that go round the classes, (count,), or nothing for an unconditional model.

    Args:
        count: How many.
        num_classes: Number of classes, 0 for none.
        offset: Index of the first sample, so that batches continue one another.
    """
    if num_classes == 0:
        return {}
    return {"label": (torch.arange(count) + offset) % num_classes}


def noise_for(
    generator: Generator,
    count: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    random_labels: bool = False,
) -> Iterator[tuple[Tensor, Condition]]:
    """Noise and labels of samples 0 to count, in batches; sample i is the same in any batching.

    Before each batch the global generators are seeded, so that what a sampler draws on its way
    depends on the seed and the batching alone, not on what was sampled before.

    Args:
        generator: For the shape and the classes.
        count: How many samples.
        batch_size: Most samples of one batch.
        seed: Seed of the noise.
        device: Where the batches go. The noise is drawn on the CPU, the same everywhere.
        random_labels: Draw the labels from the seed, as published figures do, instead of going
            round the classes.
    """
    source = torch.Generator().manual_seed(mix(seed, 0))
    labels = draw_labels(count, generator.num_classes)
    if random_labels and labels:
        drawn = torch.Generator().manual_seed(mix(seed, 3))
        labels = {"label": torch.randint(generator.num_classes, (count,), generator=drawn)}
    ahead = torch.empty(0, *generator.shape)
    for start in range(0, count, batch_size):
        part = slice(start, min(start + batch_size, count))
        missing = part.stop - start - len(ahead)
        if missing > 0:
            # torch fills a tensor in blocks of 16 numbers: whole blocks make the same numbers
            # however many are drawn at once.
            blocks = 16 * math.ceil(missing / 16)
            more = torch.randn(blocks, *generator.shape, generator=source)
            ahead = torch.cat([ahead, more])
        noise, ahead = ahead[: part.stop - start], ahead[part.stop - start :]
        torch.manual_seed(mix(seed, 1, start))
        yield noise.to(device), {k: v[part].to(device) for k, v in labels.items()}
