"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with our run folders and errors."""

import os
import re
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

import datamodules  # noqa: F401  (the guard against another package of that name)
import modules  # noqa: F401
from kdlight import stops
from kdlight.callbacks.checkpoint import AtomicCheckpointIO, LastCheckpoint
from kdlight.callbacks.images.generation import print_rows
from kdlight.callbacks.predictions import PredictionFile
from kdlight.callbacks.progress import StageProgress
from kdlight.callbacks.record import RunRecord
from kdlight.callbacks.stopping import StopAtOnce
from kdlight.commands.parsing.building import reason_of
from kdlight.commands.parsing.complaints import explain, read_sources
from kdlight.commands.parsing.help import ExampleFormatter, HelpAll, arrange_help
from kdlight.commands.parsing.numbers import check_numbers
from kdlight.commands.parsing.parser import OneSentenceParser, quiet
from kdlight.commands.shared.fitting import check_checkpoint, check_parts, check_trainer
from kdlight.commands.shared.folders import (
    check_name,
    checkpoints,
    give_back,
    newest_checkpoint,
    next_folder,
    take_folder,
)
from kdlight.commands.shared.places import from_anywhere
from kdlight.commands.shared.resuming import DoneError, accept_another_order, is_finished, run_of
from kdlight.core.moved import current
from kdlight.core.trust import trust
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.report.page import write_report
from kdlight.storage.atomic import PLACES, full_disk, sweep
from kdlight.storage.files import load_checkpoint, write_json
from kdlight.storage.yaml_text import dump_yaml, load_yaml
from kdlight.training.base import DistillationModule
from kdlight.training.reduction import PartwiseDDP
from kdlight.training.speed import Speed

CHECKPOINT = "--ckpt_path runs/quickstart/version_0/checkpoints/last.ckpt"
MEASURE = f"--config configs/quickstart.yaml {CHECKPOINT}"
VERBS = {
    "fit": (
        "--config configs/quickstart.yaml\n"
        "  python -m kdlight fit --config configs/quickstart.yaml --ckpt_path last   (continue)",
        "Train. Prints the path of the report last.",
    ),
    "validate": (MEASURE, "Run a configuration's validation on a checkpoint and print the row."),
    "test": (MEASURE, "Measure a checkpoint in full; summary.json goes into a folder test_N."),
    "predict": (MEASURE, "Sample for the labels of the held-out data into predictions.pt."),
}


class KDLightCLI(LightningCLI):
    """LightningCLI that lays out ``runs/<name>/version_N`` and lets the configuration win.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        argv: What follows it.

    Raises:
        InputError: Anything is wrong with the input. No folder is left behind.
    """

    def __init__(self, verb: str, argv: Sequence[str]) -> None:
        self.verb, self.argv = verb, [_with_current_path(word) for word in argv]
        example, description = VERBS[verb]
        epilog = f"example:\n  python -m kdlight {verb} {example}"
        self.run_folder: Path | None = None
        try:
            super().__init__(
                DistillationModule,
                L.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                parser_class=OneSentenceParser,
                # A verb's parser takes the formatter of the parser above it.
                parser_kwargs={
                    verb: {"description": description, "epilog": epilog},
                    "prog": "python -m kdlight",
                    "formatter_class": ExampleFormatter,
                },
                args=[verb, *self.argv],
            )
        except DoneError:
            self._say_that_nothing_is_left()
        except (InputError, KeyboardInterrupt):
            self._give_back()
            raise
        except OSError as error:
            full = full_disk(error)
            if full is None or full.filename:
                if error.errno in PLACES:  # bad input, as an InputError
                    self._give_back()
                raise
            # metrics.csv and TensorBoard's file are written by others, who do not say which.
            raise OSError(full.errno, full.strerror, str(self.run_folder)) from error
        except MisconfigurationException as error:
            self._give_back()
            raise InputError(" ".join(str(error).split())) from None
        except Exception as error:
            reason = self._refusal(error)
            if reason is None:
                raise
            self._give_back()
            raise InputError(reason) from None

    def _refusal(self, error: Exception) -> str | None:
        """What Lightning itself refuses, in a checkpoint or in the trainer's settings."""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        called = [f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}" for frame in frames]
        if any(re.search(r"checkpoint_connector\._?(restore|resume)", name) for name in called):
            path = self.config[self.verb].ckpt_path
            return f"{path}: expected the state of a run of this configuration, found another."
        if isinstance(error, (ValueError, TypeError)) and called[-1].startswith("lightning."):
            return f"trainer: {error}"
        return None

    def _give_back(self) -> None:
        folder = self.run_folder
        if folder is not None and is_first_rank() and not any(checkpoints(folder)):
            give_back(folder)

    def _say_that_nothing_is_left(self) -> None:
        checkpoint = self.config[self.verb].ckpt_path
        done = f"all {self.model.iterations} iterations are done"
        self.run_folder = run_of(Path(checkpoint))
        if is_first_rank():
            print(f"{checkpoint}: nothing is left to train: {done}.")
            if self.run_folder is not None and (self.run_folder / "report.html").is_file():
                print(self.run_folder / "report.html")

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        # The other verbs' parsers are not asked, and take as long to make.
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="Name of the run's folder.")
        parser.add_argument("--runs_dir", type=str, default="runs", help="Where runs go.")
        parser.add_argument(
            "--threads", type=int | None, default=None, help="CPU threads; all cores if null."
        )
        parser.add_argument(
            "--checkpoint_every", type=int, default=500, help="Iterations between checkpoints."
        )
        parser.add_class_arguments(Speed, "speed")
        parser.add_argument(
            "--inexact_resume",
            type=bool,
            default=False,
            help="Continue --ckpt_path with another seed, batch size or amount of data. What is "
            "given up: the run no longer equals one that was never stopped. run.json says so.",
        )
        parser.add_argument(
            "--help_all",
            action=HelpAll,
            help="Show the trainer's other options too, and exit.",
        )
        parser.link_arguments("seed_everything", "model.init_args.seed", apply_on="parse")
        parser.link_arguments("seed_everything", "data.init_args.seed", apply_on="parse")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; say what is wrong in terms of the user's files and keys."""
        arrange_help(self.verb, self._parser(self.verb), self.argv)
        for _ in read_sources(self.argv):
            pass  # said before jsonargparse waits for a pipe, or reads for minutes
        refused: Exception | None = None
        try:
            super().parse_arguments(parser, args)
        except Exception as error:  # InputError, or whatever odd settings lead jsonargparse to
            refused = error
        # Of what jsonargparse takes too: it lets null stand for anything.
        known = [action.dest for action in self._parser(self.verb)._actions]
        reason = explain(self.argv, known)
        if reason or isinstance(refused, ValueError):
            raise InputError(reason or str(refused))
        if refused is not None:
            raise refused
        check_numbers(self.config[self.verb].as_dict())

    def _parse_ckpt_path(self) -> None:
        # Lightning would let hyperparameters of the checkpoint replace the configuration.
        return

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise InputError(
                f"seed_everything: expected a number from 0 to 2^32 - 1, found {seed}."
            )
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        section = self.config[self.verb]
        trust(*packages_of(section.as_dict()))
        if section.speed is None:
            raise InputError("speed: expected settings such as `compile: true`, found null.")
        for name in ("threads", "checkpoint_every"):
            if section[name] is not None and section[name] < 1:
                raise InputError(f"{name}: expected a number above 0, found {section[name]}.")
        if section.threads is not None:
            there = os.cpu_count() or section.threads
            if section.threads > there:
                raise InputError(
                    f"threads: expected at most the {there} CPUs of this machine, "
                    f"found {section.threads}."
                )
            torch.set_num_threads(section.threads)
        self.parent = Path(section.runs_dir).expanduser() / check_name(section.name)
        check_trainer(section.trainer)
        if section.ckpt_path == "last":
            section.ckpt_path = str(newest_checkpoint(self.parent, "ckpt_path last"))
        if section.inexact_resume and section.ckpt_path is None:
            raise InputError("inexact_resume: expected a ckpt_path to continue, found none.")
        if section.ckpt_path is None and self.verb != "fit":
            raise InputError(
                f"ckpt_path: expected a checkpoint to {self.verb}, found none; name its file, "
                "or `last` for the newest of this name."
            )
        # Our own tables and files take their place.
        for name in ("verbose", "return_predictions"):
            if name in section:
                section[name] = False

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            raise InputError(reason) from None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        section = self.config[self.verb]
        given = self._get(self.config_init, "trainer", default={})
        callbacks = _as_list(given.get("callbacks"))
        check_parts(self.model, self.datamodule, callbacks)
        if section.ckpt_path:
            checkpoint = load_checkpoint(Path(section.ckpt_path))
            check_checkpoint(self.model, checkpoint, section.ckpt_path)
            if self.verb == "fit" and is_finished(self.model, Path(section.ckpt_path)):
                raise DoneError
        kind = "version" if self.verb == "fit" else self.verb
        if is_first_rank():
            sweep(self.parent, below=True)
        # Only the first rank writes, so only its folder counts.
        take = take_folder if is_first_rank() else next_folder
        self.run_folder = folder = take(self.parent, kind)
        name, version, root = folder.parent.name, folder.name, folder.parent.parent
        if given.get("logger") is not False:
            others = [] if given.get("logger") is True else _as_list(given.get("logger"))
            kwargs["logger"] = [
                CSVLogger(root, name, version, flush_logs_every_n_steps=1000),
                TensorBoardLogger(root, name, version),
                *others,
            ]
        if given.get("default_root_dir") is None:
            kwargs["default_root_dir"] = folder
        kwargs["plugins"] = [*_as_list(given.get("plugins")), self._checkpoint_io()]
        kwargs["callbacks"] = [
            StopAtOnce(),
            *callbacks,
            self._record(),
            *self._own_callbacks(given),
        ]
        self._get(self.config_init, "speed").apply(self.model, section.trainer.precision)
        if section.trainer.strategy == "ddp":
            kwargs["strategy"] = PartwiseDDP()
        kwargs |= {"enable_progress_bar": False, "enable_model_summary": False}
        if given.get("max_epochs") is None:
            kwargs["max_epochs"] = -1  # the module stops after its iterations
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
            asked = f"accelerator {section.trainer.accelerator}, devices {section.trainer.devices}"
            raise InputError(f"trainer ({asked}): {' '.join(str(error).split())}") from None

    def _checkpoint_io(self) -> AtomicCheckpointIO:
        if not self.config[self.verb].inexact_resume:
            return AtomicCheckpointIO()
        data = type(self.datamodule).__qualname__
        return AtomicCheckpointIO(partial(accept_another_order, data=data))

    def _own_callbacks(self, trainer: Any) -> list[L.Callback]:
        section, folder = self.config[self.verb], self.run_folder
        assert folder is not None
        if self.verb != "fit":
            return [PredictionFile(folder / "predictions.pt")] if self.verb == "predict" else []
        found: list[L.Callback] = []
        if trainer.get("enable_progress_bar") is not False:
            found.append(StageProgress())
        if trainer.get("enable_checkpointing") is not False:
            found.append(LastCheckpoint(folder / "checkpoints", section.checkpoint_every))
        return found

    def _record(self) -> RunRecord:
        section = self.config[self.verb].clone()
        checkpoint = section.ckpt_path
        if self.verb == "fit":
            # Run again, it starts from the beginning; run.json knows what it continued from.
            section.ckpt_path, section.inexact_resume = None, False
        text = self._parser(self.verb).dump(section, skip_link_targets=True, skip_none=False)
        config = dump_yaml(from_anywhere(load_yaml(text)))
        command = f"python -m kdlight {self.verb} {' '.join(self.argv)}"
        assert self.run_folder is not None
        return RunRecord(self.run_folder, config, command, checkpoint)

    # What each verb ends with ---------------------------------------------------------------

    def after_fit(self) -> None:
        """End with the page to open."""
        if self.trainer.is_global_zero and self.run_folder is not None:
            print(write_report([self.run_folder], self.run_folder / "report.html"))

    def after_validate(self) -> None:
        """Print what was measured."""
        self._print_measured()

    def after_test(self) -> None:
        """The report on generation prints and writes by itself; other methods only log."""
        self._print_measured()

    def after_predict(self) -> None:
        """End with the file."""
        if self.trainer.is_global_zero and self.run_folder is not None:
            print(next(self.run_folder.glob("predictions*.pt")))

    def _print_measured(self) -> None:
        if not self.trainer.is_global_zero or self.run_folder is None:
            return
        summary = self.run_folder / "summary.json"
        if not summary.is_file():
            name, model = next(iter(self.model.models().values()))
            row: dict[str, Any] = {"model": name}
            if isinstance(model, Generator):
                row["steps"] = model.steps[0]
            for key, value in self.trainer.callback_metrics.items():
                row[key.partition("/")[2] or key] = float(value)
            for key in ("iteration", "updates"):  # where training stood, no figures
                row.pop(key, None)
            print_rows([row])
            write_json(summary, [row])
        print(summary)


def _with_current_path(word: str) -> str:
    """A word of the command line with today's name of a class that moved."""
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{current(value)}"


def packages_of(settings: Any) -> set[str]:
    """Top-level packages of the classes that settings name: naming them is consent."""
    if isinstance(settings, list):
        return set().union(*map(packages_of, settings))
    if not isinstance(settings, dict):
        return set()
    own = {str(settings["class_path"]).partition(".")[0]} if "class_path" in settings else set()
    return own.union(*map(packages_of, settings.values()))


def is_first_rank() -> bool:
    """Whether this process writes; known from the environment before Lightning connects ranks."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def run(verb: str, argv: Sequence[str]) -> None:
    """Run one of Lightning's verbs."""
    quiet()
    with stops.between_batches("stopping after this batch; once more stops at once"):
        KDLightCLI(verb, argv)
