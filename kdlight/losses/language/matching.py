"""What pulls a student's states to its teacher's, as typed parts."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from kdlight.core.ranks import joint_batch, joint_mean
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.losses.information import information_bound
from kdlight.losses.language.objective import above_zero, within
from kdlight.losses.language.relations import relation_kl
from kdlight.networks.text.encoder import mean_of

Pairs = Sequence[tuple[int, int]]


class Match(nn.Module):
    """Compares states of one layer of a student with those of one layer of a teacher."""

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """The loss, ().

        Args:
            student: (B, L, D).
            teacher: (B, L, E), without gradient.
            mask: Tokens that are no padding, (B, L) bool.

        Returns:
            This rank's share of the joint batch's, as :func:`~kdlight.core.ranks.joint_mean` says.
        """
        raise NotImplementedError


class Matching(Recorded):
    """Base of the parts: a rule for comparing states, of whatever width they are."""

    def between(self, width: int, teacher_width: int) -> Match:
        """What compares states of these widths; its weights are trained with the student."""
        raise NotImplementedError


class HiddenStates(Matching):
    """Squared or angular distance of the tokens' states, the student's projected linearly.

    TinyBERT's (arXiv:1909.10351, eq. 8) and, by cosine, DistilBERT's (arXiv:1910.01108). In
    Distiller's reading the squared one is a bound on the mutual information too, of a Gaussian.

    Args:
        distance: ``mse``, or one minus the ``cosine``.
    """

    def __init__(self, distance: Literal["mse", "cosine"] = "mse") -> None:
        self.distance = distance

    def between(self, width: int, teacher_width: int) -> Match:
        return _Projected(width, teacher_width, self.distance == "cosine")


class _Projected(Match):
    def __init__(self, width: int, teacher_width: int, angular: bool) -> None:
        super().__init__()
        self.projection = nn.Linear(width, teacher_width, bias=False)
        self.angular = angular

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        found = self.projection(student)
        if self.angular:
            each = 1 - nn.functional.cosine_similarity(found, teacher, dim=-1)
        else:
            each = (found - teacher).square().mean(dim=-1)
        return joint_mean(each, mask.to(each.dtype))


class Relations(Matching):
    """Relations among a text's tokens: :func:`~kdlight.losses.language.relations.relation_kl`.

    Args:
        heads: Parts that the states are cut into.

    Raises:
        InputError: ``heads`` is below 1.
    """

    def __init__(self, heads: int = 1) -> None:
        if heads < 1:
            raise InputError(f"heads: expected at least 1, found {heads}.")
        self.heads = heads

    def between(self, width: int, teacher_width: int) -> Match:
        for name, each in (("student", width), ("teacher", teacher_width)):
            if each % self.heads:
                raise InputError(
                    f"heads: expected a divisor of the {name}'s width {each}, found {self.heads}."
                )
        return _Related(self.heads)


class _Related(Match):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        each = relation_kl(student, teacher, mask, self.heads)
        return joint_mean(each, mask.to(each.dtype))


class MutualInformation(Matching):
    """Minus a bound on the information that both have about a text (Distiller's MI-alpha).

    A text's feature is the mean of its tokens' states, projected; the critic is their cosine over
    a temperature; the other texts of the joint batch, on whatever rank, are held against it:
    :func:`~kdlight.losses.information.information_bound`.

    Args:
        alpha: In [0, 1]; 1 is InfoNCE.
        temperature: Of the cosine.
        dimension: Width that both are projected to.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(self, alpha: float = 0.1, temperature: float = 0.1, dimension: int = 64) -> None:
        if dimension < 1:
            raise InputError(f"dimension: expected at least 1, found {dimension}.")
        self.alpha = within("alpha", alpha)
        self.temperature = above_zero("temperature", temperature)
        self.dimension = dimension

    def between(self, width: int, teacher_width: int) -> Match:
        return _Informed(width, teacher_width, self)


class _Informed(Match):
    def __init__(self, width: int, teacher_width: int, settings: MutualInformation) -> None:
        super().__init__()
        self.student = nn.Linear(width, settings.dimension)
        self.teacher = nn.Linear(teacher_width, settings.dimension)
        self.alpha, self.temperature = settings.alpha, settings.temperature

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        own, taught = (
            nn.functional.normalize(joint_batch(project(mean_of(states, mask))), dim=-1)
            for project, states in ((self.student, student), (self.teacher, teacher))
        )
        return -information_bound(taught @ own.T / self.temperature, self.alpha)


def layer_pairs(depth: int, teacher_depth: int, layers: Literal["skip", "last"] | Pairs) -> Pairs:
    """Which layers are compared, as (student, teacher), counted from 1; 0 is the embedding.

    Args:
        depth: Layers of the student.
        teacher_depth: Layers of the teacher.
        layers: ``skip`` spreads the teacher's evenly, student layer i against round(i T / S);
            ``last`` takes the teacher's last ones; or the pairs themselves.

    Raises:
        InputError: A layer does not exist, or a student is deeper than its teacher.
    """
    if isinstance(layers, str):
        if depth > teacher_depth:
            raise InputError(
                f"layers: expected a student of at most the teacher's {teacher_depth} layers, "
                f"found {depth}; pairs of layers may be named."
            )
        shift = teacher_depth - depth
        return [
            (each, each + shift if layers == "last" else round(each * teacher_depth / depth))
            for each in range(1, depth + 1)
        ]
    for own, taught in layers:
        if not (0 <= own <= depth and 0 <= taught <= teacher_depth):
            raise InputError(
                f"layers: expected a student's layer up to {depth} and a teacher's up to "
                f"{teacher_depth}, found {own} and {taught}."
            )
    return list(layers)
