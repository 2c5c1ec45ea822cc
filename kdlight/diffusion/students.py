"""Students that start as their teachers: the teacher's network behind the student's denoiser."""

import copy

from torch import nn

from kdlight.diffusion.denoisers import (
    BoundaryDenoiser,
    ConsistencyDenoiser,
    Denoiser,
    EDMDenoiser,
    GuidedDenoiser,
)
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.errors import InputError


def unguided(teacher: Generator) -> Denoiser:
    """A teacher's denoiser below any guidance."""
    denoiser = teacher.denoiser
    while isinstance(denoiser, GuidedDenoiser):
        denoiser = denoiser.denoiser
    return denoiser


def copy_of(teacher: Generator, dropout: float | None = None) -> Denoiser:
    """A trainable copy of a teacher's denoiser, without its guidance.

    Args:
        teacher: The teacher.
        dropout: Dropout probability of the copy; None leaves the teacher's.

    Raises:
        InputError: The teacher has no weights to copy, as an exact denoiser has none.
    """
    source = unguided(teacher)
    if next(source.parameters(), None) is None:
        raise InputError(
            f"student: expected a student of its own for a teacher without weights, a "
            f"{type(source).__name__}, found null."
        )
    made = copy.deepcopy(source).requires_grad_(True).train()
    if dropout is not None:
        for module in made.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    return made


def consistency_student(teacher: Generator, dropout: float | None = None) -> Denoiser:
    """A consistency function that starts as the teacher's denoiser.

    An EDM network gets the preconditioning of consistency models, which agrees with EDM's far
    above ``sigma_min`` (Song et al. 2023, arXiv:2303.01469, appendix C); any other denoiser is
    blended with the identity (:class:`~kdlight.diffusion.denoisers.BoundaryDenoiser`).

    Args:
        teacher: The teacher.
        dropout: See :func:`copy_of`.

    Raises:
        InputError: The teacher has no weights to copy.
    """
    made = copy_of(teacher, dropout)
    if isinstance(made, EDMDenoiser):
        return ConsistencyDenoiser(made.network, made.sigma_data, made.sigma_min, made.sigma_max)
    return BoundaryDenoiser(made)


def signal_student(teacher: Generator, dropout: float | None = None) -> SignalDenoiser:
    """A signal model that starts at the teacher's estimate of pure noise.

    Args:
        teacher: The teacher.
        dropout: See :func:`copy_of`.

    Raises:
        InputError: The teacher is no EDM denoiser, or has no weights to copy.
    """
    made = copy_of(teacher, dropout)
    if not isinstance(made, EDMDenoiser):
        # Other networks see another input at another number: none of them starts out right.
        raise InputError(
            f"student: expected a SignalDenoiser of its own for a teacher that is no EDMDenoiser, "
            f"a {type(made).__name__}, found null."
        )
    return SignalDenoiser(made.network, made.sigma_data, made.sigma_min, made.sigma_max)
