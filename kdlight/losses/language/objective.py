"""What a method of language distillation minimises, as a typed part."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kdlight.core.spec import Recorded
from kdlight.errors import InputError

CHUNK_BYTES = 2**26
"""Of one (tokens, V) tensor in float32: a chunk of tokens is at most so large."""

Measure = Callable[..., Tensor]


class Objective(Recorded, nn.Module):
    """Base of the objectives: a loss for every counted token, from the logits of both models.

    Logits are aligned: those at a position predict the token that stands there. Everything is
    computed in float32 (float64 stays) with autocast off.
    """

    def forward(self, student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The loss of each token.

        Args:
            student: Logits, (B, L, V).
            teacher: Logits, (B, L, V); without gradient.
            tokens: (B, L) int64.
            mask: Which tokens count, (B, L) bool.

        Returns:
            (B, L), 0 where ``mask`` is false.
        """
        raise NotImplementedError

    def observe(self, total: Tensor, weight: Tensor) -> None:
        """Told of every batch the sums over all ranks of weighed losses and of weights, ()."""

    def advance(self, done: float) -> None:
        """Told after every update which share of the run is done, in (0, 1]."""

    def state(self) -> dict[str, Tensor]:
        """What is worth logging of it, ()."""
        return {}


class Divergence(Objective):
    """Base of the objectives that are a divergence at every token, independent of the others.

    Only counted tokens are looked at, a chunk at a time, whose intermediate tensors are made again
    on the way back: beside the logits and their gradient, memory is that of one chunk, whatever
    the vocabulary.

    Args:
        temperature: Both laws are softmax(logits / temperature).
        temperature_squared: Whether the loss is multiplied by temperature squared, which keeps the
            size of a KL's gradient (Hinton et al., arXiv:1503.02531, section 2.1). Right for the
            KLs and the Jensen-Shannon divergence, not for those that do not fall as its inverse.

    Raises:
        InputError: The temperature is not above 0.
    """

    def __init__(self, temperature: float = 1.0, temperature_squared: bool = True) -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.temperature_squared = temperature_squared

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        """The formula: (N,) from log-probabilities (N, V) of teacher and student."""
        raise NotImplementedError

    def from_logits(self, student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
        """:meth:`measure` of logits (N, V)."""
        log_p, log_q = (
            (logits / self.temperature).log_softmax(dim=-1) for logits in alike(teacher, student)
        )
        return self.measure(log_p, log_q, tokens)

    def forward(self, student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        found = chunked(self.from_logits, student[mask], teacher[mask].detach(), tokens[mask])
        return self._placed(found, mask)

    def of_kept(
        self, student: Tensor, log_p: Tensor, kept: Tensor, tokens: Tensor, mask: Tensor
    ) -> Tensor:
        """The loss of each token, from a teacher's law cut to a part of the vocabulary.

        All other tokens are one class. What two laws differ by cannot grow when classes are joined:
        of an f-divergence, as the KLs are, it is a lower bound of the whole one, and equal to it
        where the student's tail has the teacher's shape. The temperature is the student's alone;
        the teacher's was chosen when its law was cut.

        Args:
            student: Logits, (B, L, V).
            log_p: Teacher, (B, L, K + 1), normalised, the last being the others; (B, L, V) where
                all are kept.
            kept: The kept tokens, (B, L, K) int64.
            tokens: (B, L) int64.
            mask: Which tokens count, (B, L) bool.

        Returns:
            (B, L), 0 where ``mask`` is false.
        """
        found = chunked(self._from_kept, student[mask], log_p[mask], kept[mask], tokens[mask])
        return self._placed(found, mask)

    def _from_kept(self, student: Tensor, log_p: Tensor, kept: Tensor, tokens: Tensor) -> Tensor:
        log_p, student = alike(log_p, student)
        log_q = (student / self.temperature).log_softmax(dim=-1)
        own = log_q.gather(-1, kept)
        if log_p.shape[-1] > kept.shape[-1]:
            rest = log_q.scatter(-1, kept, -torch.inf).logsumexp(dim=-1, keepdim=True)
            own = torch.cat([own, rest], dim=-1)
        known = torch.eq(kept, tokens[:, None])
        place = torch.where(known.any(dim=-1), known.int().argmax(dim=-1), own.shape[-1] - 1)
        # Rounded on disk, the masses no longer sum to 1 to the last digit.
        return self.measure(log_p.log_softmax(dim=-1), own, place)

    def _placed(self, found: Tensor, mask: Tensor) -> Tensor:
        scaled = found * self.temperature**2 if self.temperature_squared else found
        return scattered(scaled, mask)


def widened(values: Tensor) -> Tensor:
    """``values`` in at least float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def alike(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the student's type, widened: an exact teacher may be float64."""
    student = widened(student)
    return teacher.to(student.dtype), student


def scattered(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` (N,) at the places of ``mask`` (B, L), 0 elsewhere, (B, L)."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def chunked(measure: Measure, student: Tensor, *others: Tensor) -> Tensor:
    """``measure`` of a chunk of rows at a time, its tensors made again on the way back.

    Args:
        measure: (n,) from rows of all tensors.
        student: (N, V); its gradient is wanted.
        others: (N, ...).

    Returns:
        (N,).
    """
    rows = max(1, CHUNK_BYTES // (4 * student.shape[1]))
    parts = zip(*(torch.split(each, rows) for each in (student, *others)), strict=True)
    with torch.autocast(student.device.type, enabled=False):
        # Not worth a second pass where all fits into one chunk.
        if len(student) <= rows:
            return measure(student, *others)
        found = [checkpoint(measure, *part, use_reentrant=False) for part in parts]
    return torch.cat(found)


def above_zero(name: str, value: float) -> float:
    """``value`` if it is a finite number above 0.

    Raises:
        InputError: It is not.
    """
    if not 0 < value < math.inf:
        raise InputError(f"{name}: expected a number above 0, found {value}.")
    return value


def within(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """``value`` if it lies in [low, high].

    Raises:
        InputError: It does not.
    """
    if not low <= value <= high:
        raise InputError(f"{name}: expected a number in [{low:g}, {high:g}], found {value}.")
    return value
