"""The ranges that arguments are declared with: ``width: PositiveInt``.

Settings are checked against them before anything is built (:mod:`kdlight.commands.parsing`), a
model's file when it is read, and a :class:`~kdlight.core.spec.Recorded` part when it is made.
"""

import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``.

    Attributes:
        low: The smallest.
        high: The largest.
        above: Whether ``low`` itself is too small.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.above else 'of at least'} {self.low:.9g}"
        if self.above:
            return f"above {self.low:.9g} and at most {self.high:.9g}"
        return f"from {self.low:.9g} to {self.high:.9g}"

    __repr__ = __str__  # jsonargparse's help shows it behind the type


PositiveInt = Annotated[int, Range(0, above=True)]
# Layers are made one by one: a slip in their number would never end.
LayerCount = Annotated[int, Range(1, 1000)]
LayerCountOrZero = Annotated[int, Range(0, 1000)]
# Faster than any sound is sampled: resampling to a slip in it would not end.
SampleRate = Annotated[int, Range(1, 1_000_000)]
NonNegativeInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(0, above=True)]
NonNegativeFloat = Annotated[float, Range(0)]
Probability = Annotated[float, Range(0, 1)]


def outside(value: Any, hint: Any) -> str | None:
    """The first number in ``value`` that is out of the range its type declares.

    Args:
        value: An argument.
        hint: Its type. What is no number passes; NaN and infinities never do.

    Returns:
        "expected a number above 0, found 0", or None.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, found {value}"
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        ranges = [each for each in parts[1:] if isinstance(each, Range)]
        if _is_number(value) and not all(value in each for each in ranges):
            return f"expected {described(hint)}, found {value}"
        return None
    if origin in (typing.Union, types.UnionType):
        # A number is measured against what may be a number, a list against what may be a list.
        parts = tuple(part for part in parts if part is not types.NoneType)
        found = [outside(value, part) for part in parts if _is_number(value) == _is_scalar(part)]
        return None if None in found else next(iter(found), None)
    items: Iterable[Any] = ()
    if isinstance(value, Mapping) and len(parts) == 2:
        items, parts = value.values(), parts[1:]
    elif isinstance(value, Sequence) and not isinstance(value, str) and parts:
        items = value
    return next((wrong for item in items if (wrong := outside(item, parts[0]))), None)


def described(hint: Any) -> str:
    """A number's type in words: "a whole number of at least 0"."""
    kind, *ranges = typing.get_args(hint)
    noun = "a whole number" if kind is int else "a number"
    return " ".join([noun, *(str(each) for each in ranges if isinstance(each, Range))])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_scalar(hint: Any) -> bool:
    return hint in (int, float) or typing.get_origin(hint) is Annotated
