"""The parser behind LightningCLI: jsonargparse's, with our errors and without its notices."""

import argparse
import logging
import warnings
from typing import Any, NoReturn

import yaml
from jsonargparse import DefaultHelpFormatter, get_loader, set_loader
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


class OneSentenceParser(LightningArgumentParser):
    """A parser that raises :class:`InputError` with one line that names the key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_sentence(message))

    def add_function_arguments(self, *args: Any, **kwargs: Any) -> Any:
        # jsonargparse 4.53 hands a function (a teacher's) the links of the model around it, which
        # only classes accept, and so refuses every override of a configuration with a teacher.
        kwargs.pop("linked_targets", None)
        return super().add_function_arguments(*args, **kwargs)


class ExampleFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's, which keeps the lines of the example."""


TITLES = {
    "ckpt_path": "Checkpoint",
    "model": "The method and its networks (class paths: python -m kdlight list methods)",
    "data": "The data",
    "trainer": "Lightning's trainer",
}
"""Groups of options by what their options start with, in the order of the help."""

SENTENCES = {
    "ckpt_path": "Checkpoint to start from, or `last` for the newest of this --name.",
    "seed_everything": "Seed of weights, data and step noise, 0 to 2^32 - 1; true draws one.",
}
"""Of options whose own help speaks of what kdlight does otherwise."""


def arrange_help(verb: str, parser: argparse.ArgumentParser) -> None:
    """Order the help of a verb for its reader: first what is kdlight's own, last the trainer.

    Only the help: the order of the arguments themselves is the order in which parts are made.
    """
    parser.usage = f"python -m kdlight {verb} --config FILE [--config FILE ...] [options]"
    places = list(TITLES)

    def place(group: argparse._ArgumentGroup) -> int:
        names = {action.dest.partition(".")[0] for action in group._group_actions}
        linked = (group.title or "").startswith("Linked")  # names of the model and the data too
        found = next((name for name in places if name in names and not linked), None)
        if found is not None:
            group.title, group.description = TITLES[found], None
            return places.index(found)
        return -1 if "config" in names else len(places)

    parser._action_groups.sort(key=place)
    for action in parser._actions:
        action.help = SENTENCES.get(action.dest, action.help)


def quiet() -> None:
    """Silence what tells our users nothing: notices for authors of Lightning code."""
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
