"""The parser behind LightningCLI: jsonargparse's, with our errors and without its notices."""

import ast
import json
import logging
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from kdlight.commands.parsing.complaints import one_sentence
from kdlight.core.moved import with_current_paths
from kdlight.errors import InputError
from kdlight.storage.yaml_text import check_yaml

_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    """YAML as its author meant it, with today's names of classes that moved."""
    check_yaml(text)
    return with_current_paths(_load_yaml(text))


set_loader("yaml", _load, (yaml.YAMLError,))


def _as_json(argument: str) -> str:
    """``--key=value`` with a value that Python wrote, if it holds a None, as JSON."""
    key, _, value = argument.partition("=")
    if "None" not in value:
        return argument
    try:
        return f"{key}={json.dumps(ast.literal_eval(value))}"
    except (ValueError, SyntaxError):  # a text
        return argument


class OneSentenceParser(LightningArgumentParser):
    """A parser that raises :class:`InputError` with one line that names the key."""

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,
        env: bool | None = None,
        defaults: bool = True,
        **kwargs: Any,
    ) -> Any:
        # What belongs to a class within a class, jsonargparse 4.53 reads and hands inwards, without
        # defaults, as Python writes it; there "None" would be a word.
        if args is not None and not defaults:
            args = [_as_json(argument) for argument in args]
        return super().parse_args(args, namespace, env, defaults, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_sentence(message))

    def add_function_arguments(self, *args: Any, **kwargs: Any) -> Any:
        # jsonargparse 4.53 hands a function (a teacher's) the links of the model around it, which
        # only classes accept, and so refuses every override of a configuration with a teacher.
        kwargs.pop("linked_targets", None)
        return super().add_function_arguments(*args, **kwargs)


def quiet() -> None:
    """Silence what tells our users nothing: notices for authors of Lightning code."""
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
