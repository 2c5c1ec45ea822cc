"""Settings of the wrong kind, whichever key they stand under: one sentence, before the work."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.tiny import TINY, Run, refused

NETWORK = "model.init_args.student.init_args.network.init_args"
REPORT = "trainer.callbacks.0.init_args"

CASES: dict[str, tuple[Any, str]] = {
    # A null, where the parser of the command line lets it stand for anything.
    "name": (None, "name: expected text, found null"),
    "checkpoint_every": (None, "checkpoint_every: expected a whole number, found null"),
    "trainer.max_steps": (None, "trainer.max_steps: expected a whole number, found null"),
    "model.init_args.optimizer.warmup": (None, "optimizer.warmup: expected a whole number"),
    "data": (None, "data: expected a class_path of LightningDataModule, found null"),
    "inexact_resume": (True, "inexact_resume: expected a ckpt_path to continue, found none"),
    # Something else than names and values.
    "trainer": (False, "trainer: expected the settings of the trainer, found False"),
    "model.init_args": ("x", "model.init_args: expected names and values, found 'x'"),
    f"{REPORT}": (1, f"{REPORT}: expected names and values, found 1"),
    # A number that none can be.
    "model.init_args.optimizer.lr": (float("nan"), "lr: expected a finite number, found nan"),
    "model.init_args.guidance_scale": (float("inf"), "guidance_scale: expected a finite number"),
    "data.init_args.batch_size": (
        10**40,
        "batch_size: expected a number of 64 bits, found one of 134",
    ),
    # A number out of the range that its argument declares.
    f"{NETWORK}.dropout": (-1.0, "dropout: expected a number from 0 to 1, found -1.0"),
    f"{NETWORK}.num_classes": (-5, "num_classes: expected a whole number of at least 0, found -5"),
    f"{NETWORK}.depth": (10**9, "depth: expected a whole number from 1 to 1000, found 1000000000"),
    f"{NETWORK}.embedding": ([8], "embedding: expected a whole number above 0, found [8]"),
    f"{NETWORK}.width": (10**9, "memory: "),
    "data.init_args.leave_out": ([10**9], "leave_out: expected some of the digits"),
    # Checked before the first step, not after the last.
    f"{REPORT}.num_samples": (1, "num_samples: expected a whole number of at least 2, found 1"),
    f"{REPORT}.preview": (-1, "preview: expected a whole number of at least 0, found -1"),
    f"{REPORT}.latency_batch": (
        -1,
        "latency_batch: expected a whole number of at least 0, found -1",
    ),
    f"{REPORT}.batch_size": (0, "batch_size: expected a whole number above 0, found 0"),
    f"{REPORT}.teacher_steps": ([0], "teacher_steps.0: expected a whole number above 0, found 0"),
    # What cannot be held, with the estimate.
    "data.init_args.batch_size ": (10**12, "batch_size: expected what fits into "),
    f"{REPORT}.num_samples ": (10**12, "num_samples: expected what fits into "),
    # What Lightning itself refuses only when the run starts.
    "trainer.val_check_interval": (1000, "trainer: `val_check_interval` (1000) must be less"),
}


@pytest.mark.parametrize("key", CASES)
def test_fit_refuses(key: str, kdlight: Run, tmp_path: Path) -> None:
    value, expected = CASES[key]
    settings = yaml.safe_load(TINY.read_text())
    *above, last = key.strip().split(".")
    part = settings
    for name in above:
        part = part[int(name) if isinstance(part, list) else name]
    part[last] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    words = ["fit", "--config", path, "--runs_dir", tmp_path / "runs"]
    refused(kdlight, words, expected, where=tmp_path)


def test_a_name_with_a_line_break_is_one_line(kdlight: Run, tmp_path: Path) -> None:
    refused(kdlight, ["list", "methods", "a\nb\u2028c"], "a", where=tmp_path)
