"""The help of the verbs of LightningCLI: kdlight's own options first, the trainer's folded."""

import argparse
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from jsonargparse import DefaultHelpFormatter

from kdlight.commands.list import data_modules, methods

WIDTH = 96


class ExampleFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's, which keeps the lines of the example and leaves out lists of classes.

    Such a list is of the classes that happen to be imported.
    """

    def _expand_help(self, action: argparse.Action) -> str:
        return re.sub(r", known subclasses: [^)]*\)", ")", super()._expand_help(action))


TITLES = {
    "ckpt_path": "Checkpoint",
    "model": "The method and its networks (class paths: python -m kdlight list methods)",
    "data": "The data (class paths: python -m kdlight list data)",
    "trainer": "Lightning's trainer (--help_all shows its other options too)",
}
"""Groups of options by what their options start with, in the order of the help."""

SENTENCES = {
    "ckpt_path": "Checkpoint to start from, or `last` for the newest of this --name.",
    "seed_everything": "Seed of weights, data and step noise, 0 to 2^32 - 1; true draws one.",
    "model.help": "Show what init_args the class of a method takes, and exit.",
    "model": "The method: its class path, or one of its settings as --model.init_args.KEY VALUE.",
    "data.help": "Show what init_args the class of the data takes, and exit.",
    "data": "The data: its class path, or one of its settings as --data.init_args.KEY VALUE.",
    "trainer.accelerator": "cpu, gpu or auto.",
    "trainer.devices": "How many devices, a list of them, or auto.",
    "trainer.num_nodes": "How many machines.",
    "trainer.strategy": "How devices work together: see configs/base/ddp.yaml and fsdp.yaml.",
    "trainer.precision": "32-true, bf16-mixed or 16-mixed; weights are kept in float32.",
    "trainer.limit_val_batches": "Validate on so many batches, or on such a share of them.",
}
"""Of options whose own help speaks of what kdlight does otherwise, or of what few need."""
FOLDED = ("trainer", "weights_only")
"""What options start with that the short help leaves out where they have no sentence above."""


class HelpAll(argparse.Action):
    """Shows the help with the options that the short one leaves out, and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, **known: Any) -> None:
        suppressed = argparse.SUPPRESS
        super().__init__(option_strings, suppressed, nargs=0, default=suppressed, **known)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Show them."""
        parser.print_help()
        parser.exit()


def arrange_help(verb: str, parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Order the help of a verb for its reader: first what is kdlight's own, last the trainer.

    Only the help: the order of the arguments themselves is the order in which parts are made.

    Args:
        verb: Of LightningCLI.
        parser: Its parser.
        words: What follows the verb; only where they ask for help is it arranged.
    """
    if not {"-h", "--help", "--help_all"} & set(words):
        return
    parser.usage = f"python -m kdlight {verb} --config FILE [--config FILE ...] [options]"
    places = list(TITLES)
    known = {"model": _names(methods()), "data": _names(data_modules())}

    def place(group: argparse._ArgumentGroup) -> int:
        names = {action.dest.partition(".")[0] for action in group._group_actions}
        linked = (group.title or "").startswith("Linked")  # names of the model and the data too
        found = next((name for name in places if name in names and not linked), None)
        if found is not None:
            group.title, group.description = TITLES[found], known.get(found)
            return places.index(found)
        return -1 if "config" in names else len(places)

    parser._action_groups.sort(key=place)
    for action in parser._actions:
        sentence = SENTENCES.get(action.dest)
        if sentence is not None:
            action.help = sentence
        elif action.dest.partition(".")[0] in FOLDED and "--help_all" not in words:
            action.help = argparse.SUPPRESS


def _names(known: Iterable[tuple[str, str]]) -> str:
    """Names of classes by domain, a paragraph each."""
    domains: dict[str, list[str]] = {}
    for path, _ in known:
        domains.setdefault(path.split(".")[1], []).append(path.rpartition(".")[2])
    return "\n".join(
        textwrap.fill(f"{domain}: {', '.join(names)}", WIDTH, subsequent_indent="  ")
        for domain, names in domains.items()
    )
