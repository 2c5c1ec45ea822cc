"""Whether a value is of the type that an argument is declared with."""

import functools
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from kdlight.core.ranges import described, outside

WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}
"""What a user calls Python's types."""


def called(value: Any) -> str:
    """What a user calls a value that a file holds: "a number", "null", "a list"."""
    words: dict[type, str] = {**WORDS, type(None): "null", dict: "an object", list: "a list"}
    return words.get(type(value)) or f"a {type(value).__name__}"


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is a ``hint``; what is not understood passes.

    Whole numbers are numbers, and lists are sequences of any kind.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is Annotated:
        return fits(value, parts[0])
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if (origin or hint) in (list, tuple, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        alike = parts and (origin is not tuple or ... in parts)
        return not alike or all(fits(item, parts[0]) for item in value)
    if (origin or hint) in (dict, Mapping):
        return isinstance(value, Mapping)
    return not inspect.isclass(hint) or origin is not None or _is(value, hint)


def _is(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot tell
        return True


def misfit(made: Any, arguments: Mapping[str, Any]) -> str | None:
    """The first of the arguments that is not of its type or range: "NAME: expected ..., found ...".

    Args:
        made: The class that takes them.
        arguments: By name.
    """
    hints = hints_of(made.__init__)
    for name, value in arguments.items():
        if name in hints and not fits(value, hints[name]):
            text = "null" if value is None else repr(value)
            found = text if len(text) < 60 else called(value)
            return f"{name}: expected {_named(hints[name])}, found {found}"
    return out_of_range(made, arguments)


def out_of_range(made: Any, arguments: Mapping[str, Any]) -> str | None:
    """The first number that is out of the range that its argument declares, as in `misfit`."""
    hints = hints_of(made.__init__)
    for name, value in arguments.items():
        if name in hints and (wrong := outside(value, hints[name])):
            return f"{name}: {wrong}"
    return None


@functools.cache
def hints_of(called: Any) -> dict[str, Any]:
    """Types of the arguments by name, with their ranges; none if they cannot be told."""
    try:
        return typing.get_type_hints(inspect.unwrap(called), include_extras=True)
    except (NameError, TypeError):
        return {}


def _named(hint: Any) -> str:
    if typing.get_origin(hint) is Annotated:
        return described(hint)
    return WORDS.get(hint) or getattr(hint, "__name__", None) or str(hint)
