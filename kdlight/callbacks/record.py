"""The record of a run: what it was asked to do, with what, and how long it took."""

import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from kdlight import __version__
from kdlight.callbacks.tensorboard import show_settings
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import write_json
from kdlight.storage.yaml_text import load_yaml
from kdlight.training.base import DistillationModule


class RunRecord(L.Callback):
    """Writes ``config.yaml`` and ``run.json`` into the run's folder, the settings to TensorBoard.

    Args:
        folder: The run's folder.
        config: The configuration as YAML that runs again.
        command: The command line.
        checkpoint: The checkpoint the run continues from, or measures.
    """

    def __init__(
        self, folder: Path, config: str, command: str, checkpoint: str | None = None
    ) -> None:
        self.folder = folder
        self._config = config
        self._facts: dict[str, Any] = {
            "name": folder.parent.name,
            "version": folder.name,
            "command": command,
            "resumed_from": checkpoint,
        }

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # At once: a run that is killed early is still a run that a report can be asked for.
        if trainer.is_global_zero:
            with atomic_path(self.folder / "config.yaml") as temporary:
                temporary.write_text(self._config, encoding="utf-8")
            write_json(self.folder / "run.json", self._facts)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        self._start = time.monotonic(), time.process_time()
        show_settings(trainer, load_yaml(self._config))
        if not trainer.is_global_zero:
            return
        self._facts |= {
            "commit": commit(),
            "versions": {
                "kdlight": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "lightning": L.__version__,
            },
            "seed": pl_module.noise.seed,
            "method": type(pl_module).__name__,
            "world_size": trainer.world_size,
            "threads": torch.get_num_threads(),
            "teacher": pl_module.provenance(),
        }
        write_json(self.folder / "run.json", self._facts)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        changed = getattr(trainer.train_dataloader, "changed", {})
        if not changed or not trainer.is_global_zero:
            return
        self._facts["inexact_resume"] = changed
        write_json(self.folder / "run.json", self._facts)
        words = ", ".join(f"{name} {before} -> {now}" for name, (before, now) in changed.items())
        print(
            f"continuing with {words}: the run no longer equals one that was never stopped",
            file=sys.stderr,
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DistillationModule)
        self._facts |= {
            "iterations": pl_module.iteration,
            "non_finite_updates": pl_module.non_finite_total,
            "wall_seconds": round(time.monotonic() - self._start[0], 2),
            "cpu_seconds": round(time.process_time() - self._start[1], 2),
        }
        write_json(self.folder / "run.json", self._facts)


def commit() -> str | None:
    """The commit of the checkout, with ``+`` if it was changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=here, capture_output=True, text=True, check=True, timeout=5,
        ).stdout.strip()  # fmt: skip
        changed = subprocess.run(
            # Without its lock, which would stay in the repository if this process were ended.
            ["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"],
            cwd=here, capture_output=True, text=True, check=True, timeout=5,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return name + ("+" if changed else "")
