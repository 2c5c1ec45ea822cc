"""What is wrong with a configuration, in one sentence that names the file, the key and the value.

The messages of jsonargparse nest every alternative it tried. So when it refuses a configuration,
the same settings are walked again along the signatures of the classes they name.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml

from kdlight.commands.parsing.signatures import (
    Complaint,
    Keys,
    arguments_of,
    check,
    check_names,
    hints_of,
    show,
    unknown,
)
from kdlight.core.hints import WORDS
from kdlight.core.moved import with_current_paths
from kdlight.errors import InputError
from kdlight.storage.yaml_text import UnmeantYAMLError, check_yaml, load_yaml
from kdlight.training.base import DistillationModule


def explain(argv: Sequence[str], known: Sequence[str]) -> str | None:
    """The first thing that is wrong with the settings; None if nothing of the usual kinds is.

    Args:
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
    source = sources[complaint.keys[: parts[0]]] if parts else ""
    end = "" if complaint.text.endswith("?") else "."
    return f"{source}{'.'.join(complaint.keys)}: {complaint.text}{end}"


def read_sources(argv: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configuration files and options in their order: what leads to a key, and nested settings.

    Raises:
        InputError: A file is missing, is not YAML, or holds no mapping.
    """
    for word in argv:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise InputError(f"expected words in UTF-8, as config.yaml holds them, found {word!r}.")
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            continue
        name, equals, value = word.partition("=")
        if not equals:
            value = next(words, "")
        key = name.lstrip("-")
        if key in ("c", "config"):
            yield f"{value}: ", _read_yaml(value)
        elif not key.endswith("+"):
            nested: Any = _value_of(value)
            for part in reversed(key.split(".")):
                nested = {part: nested}
            yield "--", nested


def _read_yaml(name: str) -> dict[str, Any]:
    if not name:
        raise InputError("--config: no file given.")
    path = Path(name)
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "pipe or a device"
        raise InputError(f"--config {name}: expected a file, found a {kind}.")
    if not path.is_file():
        raise InputError(f"--config {name}: no such file.")
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text)
        found = load_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        kind = "" if isinstance(error, UnmeantYAMLError) else "not YAML: "
        raise InputError(f"{path}: {line}{kind}{error.problem}.") from None
    except (yaml.YAMLError, ValueError):  # no UTF-8, or a number too long, too
        raise InputError(f"{path}: expected YAML, found something else.") from None
    if not isinstance(found, dict):
        kind = "nothing" if found is None else type(found).__name__
        raise InputError(f"{path}: expected a YAML mapping of keys to values, found {kind}.")
    return dict(with_current_paths(found))


def _value_of(text: str) -> Any:
    try:
        return with_current_paths(load_yaml(text))
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
        if isinstance(value, Mapping) and isinstance(settings.get(key), str):
            settings[key] = {"class_path": settings[key]}  # as after --data some.Class
        if isinstance(value, Mapping) and isinstance(settings.get(key), dict):
            _merge(settings[key], value, source, sources, here)
            continue
        for overridden in [each for each in sources if each[: len(here)] == here]:
            del sources[overridden]
        sources[here] = source
        if isinstance(value, Mapping):
            settings[key] = {}
            _merge(settings[key], value, source, sources, here)
        else:
            settings[key] = value


def _check_section(settings: Mapping[str, Any], known: Sequence[str]) -> Complaint | None:
    names = {name.partition(".")[0] for name in known} - {argparse.SUPPRESS}
    trainer = hints_of(L.Trainer) or {}
    hints: dict[str, Any] = {"model": DistillationModule, "data": L.LightningDataModule}
    hints |= {"name": str, "runs_dir": str, "threads": int | None, "checkpoint_every": int}
    hints |= {"inexact_resume": bool}
    hints |= {"seed_everything": bool | int, "ckpt_path": str | None}
    for name, value in settings.items():
        key = str(name)  # YAML knows other keys too
        if key not in names:
            text = unknown("no such option", key, names)
            inside = _section_that_takes(key, settings)
            return Complaint(
                (key,), f"no such option; did you mean --{inside}?" if inside else text
            )
        found = None
        if key == "trainer" and isinstance(value, Mapping):
            found = check_names(value, trainer, "the trainer", (key,))
        elif key == "trainer":
            found = Complaint((key,), f"expected the settings of the trainer, found {show(value)}")
        elif key in hints:
            found = check(value, hints[key], (key,))
        if found is not None:
            return found
    missing = [key for key in ("model", "data") if key not in settings]
    if missing:
        return Complaint(tuple(missing[:1]), "expected a class_path and its init_args, found none")
    return None


def _section_that_takes(name: str, settings: Mapping[str, Any]) -> str | None:
    """The full name of an argument of the data or the model that was given without its section."""
    for section in ("data", "model"):
        value = settings.get(section)
        path = value.get("class_path") if isinstance(value, Mapping) else value
        if isinstance(path, str) and name in (arguments_of(path) or {}):
            return f"{section}.init_args.{name}"
    return None


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
    for kind, words in WORDS.items():
        text = text.replace(f"Expected a <class '{kind.__name__}'>", f"expected {words}")
    text = text.replace(". Got value: ", ", found ")
    text = f"{'.'.join(keys)}: {text}" if keys else text
    return f"{text[:400]}..." if len(text) > 400 else f"{text}."
