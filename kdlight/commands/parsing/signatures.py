"""Whether settings fit the signatures of the classes they name, and which does not.

As strict as jsonargparse where it is certain, and never stricter: what is not understood passes.
"""

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from kdlight.core import ranges
from kdlight.core.hints import WORDS
from kdlight.errors import InputError
from kdlight.training.base import DistillationModule

Keys = tuple[str, ...]
OURS = ("kdlight", "modules", "datamodules")
CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}


class Complaint(NamedTuple):
    """Which key is wrong, and how."""

    keys: Keys
    text: str


def check_names(
    values: Mapping[str, Any], hints: Mapping[str, Any], owner: str, keys: Keys
) -> Complaint | None:
    """Check named values against the arguments of their owner.

    Args:
        values: By name.
        hints: Type of each argument that the owner takes.
        owner: What to call it.
        keys: The keys that lead to the values.
    """
    for name, value in values.items():
        if name not in hints:
            text = unknown(f"{owner} takes no {name}", name, hints)
            return Complaint((*keys, name), text)
        found = check(value, hints[name], (*keys, name))
        if found is not None:
            return found
    return None


def check(value: Any, hint: Any, keys: Keys) -> Complaint | None:
    """Whether ``value`` can become a ``hint``; what is not understood is let pass."""
    if hint is Any:  # a class of its own since Python 3.11
        return None
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    wrong = Complaint(keys, f"expected {_describe(hint)}, found {show(value)}")
    if origin in (typing.Union, types.UnionType):
        if isinstance(value, Mapping) and "class_path" not in value:
            # Settings are meant, where there are some, and no class.
            parts = tuple(filter(dataclasses.is_dataclass, parts)) or parts
        found = [check(value, part, keys) for part in parts]
        if None in found:
            return None
        # The alternative that came furthest is the one that was meant.
        best = max((each for each in found if each), key=lambda each: len(each.keys))
        names_a_class = isinstance(value, Mapping) or any(map(_is_part, parts))
        return best if len(best.keys) > len(keys) or names_a_class else wrong
    if origin is Annotated:
        found_wrong = check(value, parts[0], keys) or ranges.outside(_number(value), hint)
        return wrong if found_wrong else None
    if origin is Literal:
        if value in parts or str(value) in parts:
            return None
        return Complaint(keys, wrong.text + _nearest(str(value), map(str, parts)))
    if hint in WORDS:
        return None if _fits(value, hint) else wrong
    if hint is type(None):
        return None if value is None else wrong
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        return _check_items(value, parts, keys, wrong)
    if origin is dict and parts and isinstance(value, Mapping):
        checked = (check(item, parts[1], (*keys, str(name))) for name, item in value.items())
        return next((found for found in checked if found), None)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            return wrong
        if "class_path" not in value:
            return _check_arguments(value, hint, hint.__name__, keys)
    return _check_part(value, hint, keys, wrong) if _is_part(hint) else None


def _check_items(value: Any, parts: Any, keys: Keys, wrong: Complaint) -> Complaint | None:
    if not isinstance(value, list):
        return wrong
    for index, item in enumerate(value):
        found = check(item, parts[0], (*keys, str(index))) if parts else None
        if found is not None:
            return found
    return None


def _check_part(value: Any, hint: Any, keys: Keys, wrong: Complaint) -> Complaint | None:
    """A class or function named by ``class_path``, and its ``init_args``."""
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping):
        return wrong
    path = value.get("class_path")
    if not isinstance(path, str):
        return Complaint((*keys, "class_path"), f"expected {_describe(hint)}, found {show(path)}")
    if "." not in path:
        return None  # a short name, which jsonargparse knows better
    try:
        part = _import(path)
    except InputError as error:
        return Complaint((*keys, "class_path"), str(error))
    made = part if inspect.isclass(part) else typing.get_type_hints(part).get("return")
    if inspect.isclass(made) and not issubclass(made, hint):
        text = f"expected {_describe(hint)}, found {path}"
        return Complaint((*keys, "class_path"), text)
    arguments = {key: item for key, item in value.items() if key not in CLASS_KEYS}
    given = value.get("init_args")
    if given is not None and not isinstance(given, Mapping):
        return Complaint((*keys, "init_args"), f"expected names and values, found {show(given)}")
    arguments |= given or {}
    return _check_arguments(arguments, part, path.rpartition(".")[2], (*keys, "init_args"))


def _check_arguments(
    arguments: Mapping[str, Any], part: Any, name: str, keys: Keys
) -> Complaint | None:
    hints = hints_of(part)
    if hints is None:
        return None
    found = check_names(arguments, hints, name, keys)
    if found is None:
        for missing in _required(part):
            if missing not in arguments:
                return Complaint((*keys, missing), f"{name} needs it, found none")
    return found


def _import(path: str) -> Any:
    """What a class path names.

    Raises:
        InputError: Nothing; the message says what is near.
    """
    module, _, name = path.rpartition(".")
    try:
        there = importlib.import_module(module)
    except ImportError:
        text = f"found {path!r}, but there is no module {module}"
        raise InputError(text + _nearest(module, _modules_near(module))) from None
    if not hasattr(there, name):
        defined = [
            key
            for key, item in vars(there).items()
            if callable(item) and getattr(item, "__module__", "") == module
        ]
        raise InputError(f"found {path!r}, but {unknown(f'{module} has no {name}', name, defined)}")
    return getattr(there, name)


def _modules_near(name: str) -> list[str]:
    """Modules that lie where one of this name was looked for."""
    above, _, last = name.rpartition(".")
    if not above:
        return list(OURS)
    try:
        package = importlib.import_module(above)
    except ImportError:
        near = difflib.get_close_matches(above, _modules_near(above), 1)
        return _modules_near(f"{near[0]}.{last}") if near and near[0] != above else []
    return [
        f"{above}.{found.name}" for found in pkgutil.iter_modules(getattr(package, "__path__", []))
    ]


def hints_of(part: Any) -> dict[str, Any] | None:
    """The arguments of a class or function and their types; None if it takes any."""
    called = _called(part)
    if called is None:
        return None
    hints: dict[str, Any] = {}
    for each in called:
        # Through decorators, which keep the annotations but not the module of their names.
        try:
            made = each.__init__ if inspect.isclass(each) else each
            known = typing.get_type_hints(inspect.unwrap(made), include_extras=True)
        except (NameError, TypeError):
            known = {}
        for name in _parameters(each):
            hints.setdefault(name, known.get(name, Any))
    return hints


def arguments_of(path: str) -> dict[str, Any] | None:
    """:func:`hints_of` what a class path names; None also where it names nothing."""
    try:
        return hints_of(_import(path))
    except (InputError, ValueError):
        return None


def _required(part: Any) -> list[str]:
    named: dict[str, inspect.Parameter] = {}
    for each in _called(part) or []:
        named = _parameters(each) | named
    return [name for name, each in named.items() if each.default is each.empty]


def _called(part: Any) -> list[Any] | None:
    """What the arguments go to: also the bases that a method of ours hands ``**kwargs`` on to."""
    called = [part]
    bases = list(part.__mro__[1:]) if inspect.isclass(part) else []
    while _takes_any(called[-1]):
        if not bases or not issubclass(called[-1], DistillationModule):
            return None
        called.append(bases.pop(0))
    return called


def _takes_any(called: Any) -> bool:
    parameters = inspect.signature(called).parameters.values()
    return any(each.kind is each.VAR_KEYWORD for each in parameters)


def _parameters(called: Any) -> dict[str, inspect.Parameter]:
    return {
        name: each
        for name, each in inspect.signature(called).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    }


def _is_part(hint: Any) -> bool:
    plain = (*WORDS, list, tuple, dict, type(None), object)
    return inspect.isclass(hint) and typing.get_origin(hint) is None and hint not in plain


def _fits(value: Any, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind in (bool, str) and isinstance(value, bool)
    if kind is str:
        return isinstance(value, (str, int, float))
    if kind is float:
        try:
            return float(value) is not None  # YAML takes 1e-3 for text
        except (TypeError, ValueError):
            return False
    return isinstance(value, int)


def _number(value: Any) -> Any:
    """The number that YAML takes for text, as it does 1e-3."""
    return float(value) if isinstance(value, str) else value


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _describe(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if hint in WORDS:
        return WORDS[hint]
    if origin is Annotated:
        return ranges.described(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        words = [word for part in parts for word in typing.get_args(part) if _is_literal(part)]
        rest = [_describe(part) for part in parts if not _is_literal(part)]
        listed = [_describe(Literal[tuple(dict.fromkeys(map(str, words)))])] if words else []
        return " or ".join(dict.fromkeys(listed + rest))
    if origin in (list, tuple, Sequence):
        return "a list" + (f" of items that are {_describe(parts[0])}" if parts else "")
    if dataclasses.is_dataclass(hint):
        return f"the settings of {getattr(hint, '__name__', hint)}"
    return f"a class_path of {getattr(hint, '__name__', hint)}"


def show(value: Any) -> str:
    """A value as a sentence can hold it."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def unknown(text: str, name: str, known: Iterable[str]) -> str:
    """``text``, and the nearest of the known names, or all of them."""
    known = list(known)
    return text + (_nearest(name, known) or f"; expected one of {', '.join(sorted(known)[:30])}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
