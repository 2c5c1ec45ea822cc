"""What a teacher is asked to write, by what a student gets wrong (PGKD, arXiv:2411.05045)."""

from itertools import cycle, islice
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from kdlight.core.ranges import Probability
from kdlight.core.spec import Recorded


class Wish(NamedTuple):
    """A text that a teacher is to write.

    Attributes:
        label: Its class.
        instead_of: The class that it is to be hard to tell from; None for any text of its class.
    """

    label: int
    instead_of: int | None = None


@runtime_checkable
class Wishes(Protocol):
    """Says what a teacher is to write next."""

    def __call__(self, logits: Tensor, label: Tensor, count: int) -> list[Wish]:
        """``count`` wishes.

        Args:
            logits: Of the student on validation texts, (N, C).
            label: Their classes, (N,) int64.
            count: How many are wanted.
        """
        ...


class Evenly(Recorded):
    """Every class in turn, whatever the student knows: the control."""

    def __call__(self, logits: Tensor, label: Tensor, count: int) -> list[Wish]:
        return [Wish(number % logits.shape[1]) for number in range(count)]


class Feedback(Recorded):
    """More of the classes that are got wrong, and texts like those that are surely got wrong.

    Args:
        hard: Share of the wishes that name the class for which a validation text was taken, the
            surest mistakes first, each as often as the others. The rest is spread over the classes
            by their share of mistakes, one of two of which is assumed beside those seen.
    """

    def __init__(self, hard: Probability = 0.5) -> None:
        self.hard = hard

    def __call__(self, logits: Tensor, label: Tensor, count: int) -> list[Wish]:
        guess = logits.argmax(dim=1)
        wrong = hard_negatives(logits, label)
        pairs = [Wish(int(label[row]), int(guess[row])) for row in wrong]
        confused = list(islice(cycle(pairs), round(count * self.hard)))
        seen, missed = (
            torch.bincount(some, minlength=logits.shape[1]).double()
            for some in (label, label[wrong])
        )
        each = apportioned((missed + 1) / (seen + 2), count - len(confused))
        return confused + [Wish(kind) for kind, many in enumerate(each) for _ in range(many)]


def hard_negatives(logits: Tensor, label: Tensor) -> Tensor:
    """Rows that are got wrong, the surest mistake first, of equal ones the first, (n,) int64.

    Args:
        logits: (N, C).
        label: (N,) int64.
    """
    confidence, guess = logits.double().softmax(dim=1).max(dim=1)
    wrong = torch.nonzero(guess != label)[:, 0]
    return wrong[confidence[wrong].argsort(descending=True, stable=True)]


def apportioned(weights: Tensor, count: int) -> list[int]:
    """Whole numbers in the proportion of weights (C,) that sum to ``count``: largest remainders."""
    exact = weights.double() / weights.double().sum() * count
    whole = exact.floor().long()
    behind = (exact - whole).argsort(descending=True, stable=True)
    whole[behind[: count - int(whole.sum())]] += 1
    found: list[int] = whole.tolist()
    return found
