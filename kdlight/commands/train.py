"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with our run folders and errors."""

import logging
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import datamodules  # noqa: F401  (the guard against another package of that name)
import modules  # noqa: F401
from kdlight.base import DistillationModule
from kdlight.callbacks.checkpoint import AtomicCheckpointIO, LastCheckpoint
from kdlight.callbacks.progress import StageProgress
from kdlight.callbacks.record import RunRecord
from kdlight.errors import InputError
from kdlight.files import load_checkpoint
from kdlight.report.page import write_report


class OneSentenceParser(LightningArgumentParser):
    """A parser that raises :class:`InputError` with the one line that names the key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_sentence(message))


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
            r"(Problem|Does not validate|Subtypes|Errors:|Given value|Expected a <class 'None)"
        )
        if text and not re.match(structure, text):
            complaint = text
            break
    text = re.sub(r"\s+", " ", complaint or message).removesuffix(".")
    text = f"{'.'.join(keys)}: {text}" if keys else text
    return f"{text[:400]}..." if len(text) > 400 else f"{text}."


class KDLightCLI(LightningCLI):
    """LightningCLI that lays out ``runs/<name>/version_N`` and lets the configuration win."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="Name of the run's folder.")
        parser.add_argument("--runs_dir", type=str, default="runs", help="Where runs go.")
        parser.add_argument(
            "--threads", type=int | None, default=None, help="CPU threads; all cores if null."
        )
        parser.add_argument(
            "--checkpoint_every", type=int, default=500, help="Updates between checkpoints."
        )
        parser.link_arguments("seed_everything", "model.init_args.seed", apply_on="parse")
        parser.link_arguments("seed_everything", "data.init_args.seed", apply_on="parse")

    def _parse_ckpt_path(self) -> None:
        # Lightning would let hyperparameters of the checkpoint replace the configuration.
        return

    def before_instantiate_classes(self) -> None:
        threads = self._get(self.config, "threads")
        if threads is not None:
            torch.set_num_threads(threads)
        self.run_folder = next_version(
            Path(self._get(self.config, "runs_dir")) / self._get(self.config, "name")
        )
        section = self.config[self.config.subcommand]
        if section.get("ckpt_path") == "last":
            section["ckpt_path"] = str(newest_checkpoint(self.run_folder.parent))
        if section.get("ckpt_path"):
            self.checkpoint: dict[str, Any] | None = load_checkpoint(Path(section["ckpt_path"]))
        else:
            self.checkpoint = None

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            self.model.on_load_checkpoint(self.checkpoint)
            self.checkpoint = None

    def after_fit(self) -> None:
        """End with the page to open."""
        if self.trainer.is_global_zero:
            print(write_report([self.run_folder], self.run_folder / "report.html"))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        folder = self.run_folder
        name, version, root = folder.parent.name, folder.name, folder.parent.parent
        section = self.config[str(self.subcommand)]
        trainer_config = self._get(self.config_init, "trainer", default={})
        if trainer_config.get("logger") in (None, True):
            kwargs["logger"] = [
                CSVLogger(root, name, version, flush_logs_every_n_steps=1000),
                TensorBoardLogger(root, name, version),
            ]
        kwargs["plugins"] = [*_as_list(trainer_config.get("plugins")), AtomicCheckpointIO()]
        parser = self._parser(self.subcommand)
        kwargs["callbacks"] = [
            *_as_list(trainer_config.get("callbacks")),
            *([StageProgress()] if trainer_config.get("enable_progress_bar") is not False else []),
            *(
                [LastCheckpoint(folder / "checkpoints", section["checkpoint_every"])]
                if trainer_config.get("enable_checkpointing") is not False
                else []
            ),
            RunRecord(
                folder,
                parser.dump(section, skip_link_targets=True, skip_none=False),
                f"python -m kdlight {' '.join(sys.argv[1:])}",
                section.get("ckpt_path"),
            ),
        ]
        kwargs["enable_progress_bar"] = False
        kwargs["enable_model_summary"] = False
        if trainer_config.get("max_epochs") is None:
            kwargs["max_epochs"] = -1  # the module stops after its iterations
        return super().instantiate_trainer(**kwargs)


def next_version(folder: Path) -> Path:
    """The first unused ``version_N`` of a run; nothing is created."""
    taken = [
        int(child.name.removeprefix("version_"))
        for child in folder.glob("version_*")
        if child.name.removeprefix("version_").isdigit()
    ]
    return folder / f"version_{max(taken, default=-1) + 1}"


def newest_checkpoint(folder: Path) -> Path:
    """The newest ``last.ckpt`` below a run's folder.

    Raises:
        InputError: There is none.
    """
    found = sorted(
        folder.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime
    )
    if not found:
        raise InputError(f"ckpt_path last: no checkpoint below {folder}.")
    return found[-1]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def run(verb: str, argv: Sequence[str]) -> None:
    """Run one of Lightning's verbs."""
    quiet()
    try:
        KDLightCLI(
            DistillationModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=OneSentenceParser,
            args=[verb, *argv],
        )
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from None


def quiet() -> None:
    """Silence what tells our users nothing: notices for authors of Lightning code."""
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
