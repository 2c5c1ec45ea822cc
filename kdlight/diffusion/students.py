"""Students that start as their teachers: the teacher's network behind the student's denoiser."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from torch import nn

from kdlight.core.frozen import unfrozen
from kdlight.core.spec import rebuilt
from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.denoisers import (
    BoundaryDenoiser,
    ConsistencyDenoiser,
    Denoiser,
    EDMDenoiser,
    GuidedDenoiser,
)
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.signal import SignalDenoiser
from kdlight.errors import InputError


@runtime_checkable
class Scalable(Protocol):
    """A network that can be built wider or narrower."""

    def of_width(self, factor: float) -> nn.Module:
        """An untrained network as this one, with ``factor`` times its channels."""


@dataclass
class Adapters:
    """How a network is adapted: ``W x`` becomes ``W x + (alpha / rank) B A x``.

    Args:
        rank: Rank of ``B A``.
        alpha: Scale of the adapters; null is ``rank``, a factor of 1.
        layers: How the names of the adapted layers end; null for those that are usual in its kind
            of network.
    """

    rank: int = 64
    alpha: float | None = None
    layers: list[str] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"rank: expected at least 1, found {self.rank}.")
        if self.alpha is not None and not self.alpha > 0:
            raise InputError(f"alpha: expected a number above 0, found {self.alpha}.")


@runtime_checkable
class Adaptable(Protocol):
    """A network whose layers can be given adapters."""

    def adapted(self, adapters: Adapters) -> nn.Module:
        """The network itself with trained adapters beside its layers, which stay as they are."""


@dataclass(frozen=True)
class LikeTeacher:
    """A student described by how it differs from its teacher; in YAML ``student: {width: 0.5}``.

    Checkpoints hold the network that comes of it: to sample or to export takes no teacher.

    Args:
        width: Channels of the student's network for one of the teacher's. At 1 the student starts
            from the teacher's weights, at any other width untrained.
        adapters: Train adapters of these settings (LoRA) beside the teacher's own weights, which
            the student shares, in memory too; null trains all weights.
        prediction: What the student's network predicts; null is what the teacher's does. Only the
            network of a ``VPDenoiser`` can be taught another prediction.
    """

    width: float = 1.0
    prediction: Literal["v_prediction", "sample"] | None = None
    adapters: Adapters | None = None

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise InputError(f"student.width: expected a number above 0, found {self.width}.")

    def of(self, teacher: Denoiser) -> Denoiser:
        """The student of a denoiser.

        Raises:
            InputError: The denoiser's network has no other width, or no other prediction.
        """
        if self.adapters is not None:
            if self.width != 1 or self.prediction is not None:
                raise InputError(
                    "student.adapters: expected width 1 and prediction null, since all but the "
                    "adapters stays as the teacher has it."
                )
            return adapted(teacher, self.adapters)
        made = copy.deepcopy(teacher)
        if self.width != 1:
            network = getattr(made, "network", made)
            if not isinstance(network, Scalable):
                raise InputError(
                    f"student.width: expected a network that can be built at another width "
                    f"(of_width), as UNet2D, DiT and ScaleShiftMLP can, "
                    f"found a {type(network).__name__}."
                )
            made = rebuilt(made, network=network.of_width(self.width))
        if self.prediction is not None:
            if not isinstance(made, VPDenoiser):
                raise InputError(
                    f"student.prediction: expected null for a teacher that is no VPDenoiser "
                    f"but {type(made).__name__}, found {self.prediction!r}."
                )
            made = rebuilt(made, network=made.network, prediction=self.prediction)
        return made


def adapted(denoiser: Denoiser, adapters: Adapters) -> Denoiser:
    """A denoiser with trained adapters whose other weights are those of ``denoiser`` themselves.

    Args:
        denoiser: The original; it stays as it is.
        adapters: Settings of the adapters.

    Raises:
        InputError: Its network takes no adapters.
    """
    network = getattr(denoiser, "network", None)
    if not isinstance(network, Adaptable):
        raise InputError(
            f"adapters: expected a teacher with a network of diffusers or EDM, found a "
            f"{type(network or denoiser).__name__}."
        )
    tensors = itertools.chain(denoiser.parameters(), denoiser.buffers())
    made = copy.deepcopy(denoiser, {id(tensor): tensor for tensor in tensors})
    made.network = made.network.adapted(adapters)  # type: ignore[operator, union-attr]
    return made


def unguided(teacher: Generator) -> Denoiser:
    """A teacher's denoiser below any guidance."""
    denoiser = teacher.denoiser
    while isinstance(denoiser, GuidedDenoiser):
        denoiser = denoiser.denoiser
    return denoiser


def copy_of(
    teacher: Generator, dropout: float | None = None, like: LikeTeacher | None = None
) -> Denoiser:
    """A trainable copy of a teacher's denoiser, without its guidance.

    Args:
        teacher: The teacher.
        dropout: Dropout probability of the copy; None leaves the teacher's.
        like: How it differs from the teacher; None for a copy.

    Raises:
        InputError: The teacher has no weights to copy, as an exact denoiser has none, or cannot be
            changed in that way.
    """
    source = unguided(teacher)
    if next(source.parameters(), None) is None:
        raise InputError(
            f"student: expected a student of its own for a teacher without weights, a "
            f"{type(source).__name__}, found null."
        )
    made = unfrozen((like or LikeTeacher()).of(source)).train()
    if dropout is not None:
        for module in made.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    return made


def consistency_student(
    teacher: Generator, dropout: float | None = None, like: LikeTeacher | None = None
) -> Denoiser:
    """A consistency function that starts as the teacher's denoiser.

    An EDM network gets the preconditioning of consistency models, which agrees with EDM's far
    above ``sigma_min`` (Song et al. 2023, arXiv:2303.01469, appendix C). A denoiser that predicts
    noise or a velocity stays as it is: its estimate is ``x`` itself at level 0, which is then the
    boundary. Any other is blended with the identity
    (:class:`~kdlight.diffusion.denoisers.BoundaryDenoiser`).

    Args:
        teacher: The teacher.
        dropout: See :func:`copy_of`.
        like: See :func:`copy_of`.

    Raises:
        InputError: The teacher has no weights to copy.
    """
    made = copy_of(teacher, dropout, like)
    if isinstance(made, EDMDenoiser):
        return ConsistencyDenoiser(made.network, made.sigma_data, made.sigma_min, made.sigma_max)
    if isinstance(made, FlowDenoiser) or (
        isinstance(made, VPDenoiser) and made.prediction != "sample"
    ):
        return made
    return BoundaryDenoiser(made)


def signal_student(
    teacher: Generator, dropout: float | None = None, like: LikeTeacher | None = None
) -> SignalDenoiser:
    """A signal model that starts at the teacher's estimate of pure noise.

    Args:
        teacher: The teacher.
        dropout: See :func:`copy_of`.
        like: See :func:`copy_of`.

    Raises:
        InputError: The teacher is no EDM denoiser, or has no weights to copy.
    """
    made = copy_of(teacher, dropout, like)
    if not isinstance(made, EDMDenoiser):
        # Other networks see another input at another number: none of them starts out right.
        raise InputError(
            f"student: expected a SignalDenoiser of its own for a teacher that is no EDMDenoiser, "
            f"a {type(made).__name__}, found null."
        )
    return SignalDenoiser(made.network, made.sigma_data, made.sigma_min, made.sigma_max)


@runtime_checkable
class TellsInterval(Protocol):
    """A network of which there is a copy that is told how far a jump goes."""

    def told_interval(self) -> nn.Module:
        """That copy; it starts as the network itself."""


def mean_flow_student(
    teacher: Generator, dropout: float | None = None, like: LikeTeacher | None = None
) -> MeanFlowDenoiser:
    """A flow map that starts at the velocity of its teacher, whatever the jump.

    Args:
        teacher: The teacher, of flow matching.
        dropout: See :func:`copy_of`.
        like: See :func:`copy_of`.

    Raises:
        InputError: The teacher is no FlowDenoiser, or its network cannot be told the interval.
    """
    made = copy_of(teacher, dropout, like)
    if not isinstance(made, FlowDenoiser) or not isinstance(made.network, TellsInterval):
        # Networks of other teachers see another input at another number.
        raise InputError(
            f"student: expected a MeanFlowDenoiser of its own for a teacher that is no flow-"
            f"matching transformer of a pipeline, a {type(made).__name__} of a "
            f"{type(getattr(made, 'network', made)).__name__}, found null."
        )
    return MeanFlowDenoiser(made.network.told_interval(), made.time_scale)


Made = TypeVar("Made", bound=Denoiser)


def student_of(
    student: Made | LikeTeacher | None,
    teacher: Generator | None,
    dropout: float | None,
    copied: Callable[[Generator, float | None, LikeTeacher | None], Made],
) -> Made:
    """The student that a method trains.

    Args:
        student: A student of its own, how it differs from the teacher, or None for a copy.
        teacher: Whom to copy.
        dropout: See :func:`copy_of`.
        copied: What makes a student of the teacher, such as :func:`copy_of`.

    Raises:
        InputError: There is neither student nor teacher, or the teacher cannot be copied.
    """
    if isinstance(student, Denoiser):
        return student
    if teacher is None:
        raise InputError("teacher: expected a teacher or a student to start from, found null.")
    return copied(teacher, dropout, student)
