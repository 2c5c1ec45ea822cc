"""Named predicates of what a teacher answered: what passes all is learnt from.

Each is a function of a text and an answer alone, so their order does not matter and passing twice
is passing once.
"""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from kdlight.core.ranges import NonNegativeFloat, NonNegativeInt
from kdlight.core.spec import Recorded

Entities = list[tuple[str, str]]


class Critic(Protocol):
    """Says whether an answer may be learnt from."""

    def __call__(self, text: str, answer: Entities) -> bool:
        """Whether it may."""
        ...


class InText(Recorded):
    """Every string that is named stands in the text: teachers invent some."""

    def __call__(self, text: str, answer: Entities) -> bool:
        return all(string and string in text for string, _ in answer)


class KnownTypes(Recorded):
    """Every type is one that was asked for.

    Args:
        types: Those.
    """

    def __init__(self, types: list[str]) -> None:
        self.types = types

    def __call__(self, text: str, answer: Entities) -> bool:
        return all(kind in self.types for _, kind in answer)


class AtLeast(Recorded):
    """So many strings are named: a text in which a teacher finds nothing is often one it missed.

    Args:
        count: How many.
    """

    def __init__(self, count: NonNegativeInt = 1) -> None:
        self.count = count

    def __call__(self, text: str, answer: Entities) -> bool:
        return len(answer) >= self.count


class OneType(Recorded):
    """No string is named with two types."""

    def __call__(self, text: str, answer: Entities) -> bool:
        strings = {string for string, _ in answer}
        return len(strings) == len(set(answer))


class LengthRatio(Recorded):
    """A new text is about as long as the old one (Impossible Distillation, arXiv:2305.16635).

    Args:
        least: Characters of the new one over those of the old one.
        most: The same.
    """

    def __init__(self, least: NonNegativeFloat = 0.8, most: NonNegativeFloat = 1.5) -> None:
        self.least, self.most = least, most

    def __call__(self, text: str, answer: Any) -> bool:
        return self.least <= len(str(answer)) / max(1, len(text)) <= self.most


class SameNumbers(Recorded):
    """A new text has the numbers of the old one: all, and no others.

    The release of Impossible Distillation tests the new text's numbers alone, so that one that was
    lost passes.
    """

    def __call__(self, text: str, answer: Any) -> bool:
        old, new = (re.findall(r"\d+(?:[.,]\d+)*", each) for each in (text, str(answer)))
        return sorted(old) == sorted(new)


def passes(critics: Sequence[Any], text: str, answer: Any) -> str | None:
    """The name of the first critic that refuses an answer; None if all let it pass."""
    return next((type(each).__name__ for each in critics if not each(text, answer)), None)
