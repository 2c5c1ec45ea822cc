"""What is wrong with a configuration, in one sentence that names the file, the key and the value.

The messages of jsonargparse nest every alternative it tried. So when it refuses a configuration,
the same settings are walked again along the signatures of the classes they name.
"""

import dataclasses
import difflib
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning as L
import yaml

from kdlight.base import DistillationModule
from kdlight.errors import InputError

Keys = tuple[str, ...]
CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Complaint(NamedTuple):
    """Which key is wrong, and how."""

    keys: Keys
    text: str


def explain(verb: str, argv: Sequence[str], known: Sequence[str]) -> str | None:
    """The first thing that is wrong with the settings; None if nothing of the usual kinds is.

    Args:
        verb: ``fit`` and its like.
        argv: The command line behind the verb.
        known: Names of the options of this verb, such as ``trainer.max_epochs``.

    Raises:
        InputError: A configuration file is missing or is not YAML.
    """
    settings: dict[str, Any] = {}
    sources: dict[Keys, str] = {}
    for source, addition in read_sources(argv):
        _merge(settings, addition, source, sources, ())
    complaint = _check_section(settings, known)
    if complaint is None:
        return None
    parts = [part for part in range(len(complaint.keys), 0, -1) if complaint.keys[:part] in sources]
    source = sources[complaint.keys[: parts[0]]] if parts else verb
    end = "" if complaint.text.endswith("?") else "."
    return f"{source}: {'.'.join(complaint.keys)}: {complaint.text}{end}"


def read_sources(argv: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configuration files and options in their order: where from, and the nested settings.

    Raises:
        InputError: A file is missing, is not YAML, or holds no mapping.
    """
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            continue
        name, equals, value = word.partition("=")
        if not equals:
            value = next(words, "")
        key = name.lstrip("-")
        if key in ("c", "config"):
            yield value, _read_yaml(Path(value))
        elif not key.endswith("+"):
            nested: Any = _value_of(value)
            for part in reversed(key.split(".")):
                nested = {part: nested}
            yield "command line", nested


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"--config {path}: no such file.")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}: line {line}: not YAML: {error.problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        raise InputError(f"{path}: expected YAML, found something else.") from None
    if not isinstance(found, dict):
        kind = "nothing" if found is None else type(found).__name__
        raise InputError(f"{path}: expected a YAML mapping of keys to values, found {kind}.")
    return found


def _value_of(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _merge(
    settings: dict[str, Any],
    addition: Mapping[str, Any],
    source: str,
    sources: dict[Keys, str],
    keys: Keys,
) -> None:
    if "class_path" in addition and addition["class_path"] != settings.get("class_path"):
        settings.pop("init_args", None)  # they were another class's
    for key, value in addition.items():
        here = (*keys, str(key))
        if isinstance(value, Mapping) and isinstance(settings.get(key), dict):
            _merge(settings[key], value, source, sources, here)
            continue
        sources[here] = source
        if isinstance(value, Mapping):
            settings[key] = {}
            _merge(settings[key], value, source, sources, here)
        else:
            settings[key] = value


def _check_section(settings: Mapping[str, Any], known: Sequence[str]) -> Complaint | None:
    names = {name.partition(".")[0] for name in known}
    trainer = _hints(L.Trainer) or {}
    hints: dict[str, Any] = {"model": DistillationModule, "data": L.LightningDataModule}
    hints |= {"name": str, "runs_dir": str, "threads": int | None, "checkpoint_every": int}
    hints |= {"seed_everything": bool | int, "ckpt_path": str | None}
    for key, value in settings.items():
        if key not in names:
            return Complaint((key,), _unknown("no such option", key, names))
        found = None
        if key == "trainer" and isinstance(value, Mapping):
            found = _check_names(value, trainer, "the trainer", (key,))
        elif key in hints:
            found = _check(value, hints[key], (key,))
        if found is not None:
            return found
    missing = [key for key in ("model", "data") if key not in settings]
    if missing:
        return Complaint(tuple(missing[:1]), "expected a class_path and its init_args, found none")
    return None


def _check_names(
    values: Mapping[str, Any], hints: Mapping[str, Any], owner: str, keys: Keys
) -> Complaint | None:
    for name, value in values.items():
        if name not in hints:
            text = _unknown(f"{owner} takes no {name}", name, hints)
            return Complaint((*keys, name), text)
        found = _check(value, hints[name], (*keys, name))
        if found is not None:
            return found
    return None


def _check(value: Any, hint: Any, keys: Keys) -> Complaint | None:
    """Whether ``value`` can become a ``hint``; what is not understood is let pass."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    wrong = Complaint(keys, f"expected {_describe(hint)}, found {_show(value)}")
    if origin in (typing.Union, types.UnionType):
        found = [_check(value, part, keys) for part in parts]
        if None in found:
            return None
        # The alternative that came furthest is the one that was meant.
        best = max((each for each in found if each), key=lambda each: len(each.keys))
        names_a_class = isinstance(value, Mapping) or any(map(_is_part, parts))
        return best if len(best.keys) > len(keys) or names_a_class else wrong
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
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            return wrong
        if "class_path" not in value:
            return _check_names(value, _hints(hint) or {}, hint.__name__, keys)
    return _check_part(value, hint, keys, wrong) if _is_part(hint) else None


def _check_items(value: Any, parts: Any, keys: Keys, wrong: Complaint) -> Complaint | None:
    if not isinstance(value, list):
        return wrong
    for index, item in enumerate(value):
        found = _check(item, parts[0], (*keys, str(index))) if parts else None
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
        return Complaint((*keys, "class_path"), f"expected {_describe(hint)}, found {_show(path)}")
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
    arguments |= value.get("init_args") or {}
    hints = _hints(part)
    if hints is None:
        return None
    name = path.rpartition(".")[2]
    found = _check_names(arguments, hints, name, (*keys, "init_args"))
    if found is None:
        for missing in _required(part):
            if missing not in arguments:
                return Complaint((*keys, "init_args", missing), f"{name} needs it, found none")
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
        raise InputError(f"found {path!r}, but there is no module {module}") from None
    if not hasattr(there, name):
        defined = [
            key
            for key, item in vars(there).items()
            if callable(item) and getattr(item, "__module__", "") == module
        ]
        raise InputError(f"found {path!r}, but {_unknown(f'{module} has no {name}', name, defined)}")
    return getattr(there, name)


def _hints(part: Any) -> dict[str, Any] | None:
    """The arguments of a class or function and their types; None if it takes any."""
    signature = inspect.signature(part)
    if any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
        return None
    called = part.__init__ if inspect.isclass(part) else part
    # Through decorators, which keep the annotations but not the module of their names.
    try:
        hints = typing.get_type_hints(inspect.unwrap(called))
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name, Any) for name in signature.parameters}


def _required(part: Any) -> list[str]:
    parameters = inspect.signature(part).parameters.values()
    return [each.name for each in parameters if each.default is each.empty]


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


def _describe(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if hint in WORDS:
        return WORDS[hint]
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_describe(part) for part in parts))
    if origin in (list, tuple, Sequence):
        return "a list" + (f" of items that are {_describe(parts[0])}" if parts else "")
    if dataclasses.is_dataclass(hint):
        return f"the settings of {getattr(hint, '__name__', hint)}"
    return f"a class_path of {getattr(hint, '__name__', hint)}"


def _show(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unknown(text: str, name: str, known: typing.Iterable[str]) -> str:
    return text + (_nearest(name, known) or f"; expected one of {', '.join(sorted(known)[:30])}")


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def one_sentence(message: str) -> str:
    """The innermost complaint of a nested parser message, behind the keys that lead to it."""
    keys: list[str] = []
    complaint = ""
    for line in message.splitlines():
        found = re.match(r'[\s-]*Parser key "([^"]+)":\s*(.*)', line)
        if found:
            keys.append(found.group(1))
            line = found.group(2)
        text = line.strip(" -")
        structure = (
            r"(Problem|Does not validate|Subtypes|Errors:|Given value|Expected a <class 'None"
            r"|Expected a path but)"
        )
        if text and not re.match(structure, text):
            complaint = text
            break
    text = re.sub(r"\s+", " ", complaint or message).removesuffix(".")
    text = f"{'.'.join(keys)}: {text}" if keys else text
    return f"{text[:400]}..." if len(text) > 400 else f"{text}."
