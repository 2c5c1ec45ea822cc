"""Multistep consistency sampling at noise levels of one's own choice."""

import itertools
from collections.abc import Sequence

from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import PrefixGrid
from kdlight.errors import InputError


def level_bounds(generator: Generator) -> tuple[float, float]:
    """What the intermediate levels of a consistency student lie between, exclusively.

    Args:
        generator: The student.

    Returns:
        The boundary, or the smallest level it is meant for, and the first level of its walks.

    Raises:
        InputError: It does not sample with the consistency algorithm, so has no free levels.
    """
    if generator.algorithm != "consistency" or type(generator) is not Generator:
        raise InputError(
            f"sigmas: expected a student that samples with the algorithm consistency at any "
            f"level, found a {type(generator).__name__} that samples with {generator.algorithm}."
        )
    first = float(generator.grid.sigmas(generator.steps[0])[0])
    return generator.denoiser.sigma_min, first


def with_sigmas(generator: Generator, sigmas: Sequence[float]) -> Generator:
    """A consistency student that re-noises to other levels than it was made to sample with.

    k levels make k + 1 steps, the default of the result; a walk of n steps, fewer, takes the
    first n - 1 of them (Song et al. 2023, arXiv:2303.01469, algorithm 1).

    Args:
        generator: The student; the result shares its denoiser.
        sigmas: Intermediate noise levels, falling, in data units. The first level of a walk stays
            the student's.

    Raises:
        InputError: The student has no free levels, or these do not fall or lie outside its range.
    """
    low, first = level_bounds(generator)
    if any(not b < a for a, b in itertools.pairwise([first, *sigmas, low])):
        found = " ".join(f"{sigma:g}" for sigma in sigmas)
        raise InputError(
            f"sigmas: expected falling noise levels below {first:g} and above {low:g}, "
            f"found {found}."
        )
    steps = len(sigmas) + 1
    made = Generator(
        generator.denoiser,
        PrefixGrid([first, *map(float, sigmas)]),
        generator.shape,
        "consistency",
        (steps, *range(1, steps)),
        any_steps=False,
    )
    return made.train(generator.training)
