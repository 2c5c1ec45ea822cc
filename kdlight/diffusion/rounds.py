"""The rounds of progressive distillation: their noise levels and their lengths."""

from collections.abc import Sequence

from torch import Tensor

from kdlight.diffusion.sigmas import halve
from kdlight.errors import InputError


def grids_of_rounds(levels: Tensor, start: int, end: int) -> list[Tensor]:
    """The teacher's levels, then those of every round's student: each halves the one before.

    Args:
        levels: (start + 1,), falling to 0.
        start: Steps of the teacher.
        end: Steps of the last student.

    Raises:
        InputError: Halving ``start``, odd numbers upwards, never gives ``end``.
    """
    if not 1 <= end < start:
        raise InputError(
            f"student_steps: expected 1 <= student_steps < teacher_steps, found {end} and {start}."
        )
    grids = [levels]
    while len(grids[-1]) - 1 > end:
        grids.append(halve(grids[-1]))
    if len(grids[-1]) - 1 != end:
        counts = ", ".join(str(len(grid) - 1) for grid in grids)
        raise InputError(f"student_steps: halving {start} steps gives {counts} steps, never {end}.")
    return grids


def lengths_of_rounds(iterations: int | Sequence[int], rounds: int) -> list[int]:
    """Training batches of each round.

    Args:
        iterations: Of every round, or of each in turn.
        rounds: How many.

    Raises:
        InputError: Another number of rounds, or one without a batch.
    """
    lengths = [iterations] * rounds if isinstance(iterations, int) else list(iterations)
    if len(lengths) != rounds or min(lengths) < 1:
        raise InputError(
            f"round_iterations: expected {rounds} numbers above 0, one a round, found {lengths}."
        )
    return lengths
