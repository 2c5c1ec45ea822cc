"""A network, a loss and a method in a user's own package: train, resume, sample, export."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdlight.cli import main
from tests.commands.tiny import assert_same_weights

ROOT = Path(__file__).parents[1]

PACKAGE = '''
import torch
from torch import nn

from kdlight.core.spec import Recorded
from kdlight.losses.distances import Distance
from kdlight.diffusion.denoisers import expand
from kdlight.losses.denoising import weighted_squared_error
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_tuning import ConsistencyTuning


class Tiny(Recorded, nn.Module):
    """One hidden layer, told the noise level and the class."""

    def __init__(self, shape, width=16, num_classes=10):
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        size = shape[0] * shape[1] * shape[2]
        self.inner = nn.Linear(size + 1 + num_classes, width)
        self.outer = nn.Linear(width, size)

    def forward(self, x, noise, condition=None):
        label = x.new_zeros(len(x), self.num_classes)
        if condition and "label" in condition:
            label = nn.functional.one_hot(condition["label"], self.num_classes).to(x)
        told = torch.cat([x.flatten(1), noise[:, None].to(x), label], 1)
        return self.outer(self.inner(told).sin()).reshape(x.shape)


class Unrecorded(nn.Linear):
    num_classes, shape = 0, (1, 8, 8)


class Cubic(Distance):
    """The mean cube of the difference."""

    def measure(self, estimate, target):
        return (estimate - target).flatten(1).abs().pow(3).mean(1)


class Tuning(ConsistencyTuning):
    """Consistency tuning that looks at half of a batch."""

    def __init__(self, optimizer: Optimization, fail: bool = False, **kwargs):
        super().__init__(optimizer, **kwargs)
        self.fail = fail

    def step(self, batch):
        if self.fail:
            raise ZeroDivisionError("no such luck")
        half = {name: value[::2] for name, value in batch.items()}
        super().step(half)
'''

CONFIG = """
name: lab
seed_everything: 0
threads: 1
checkpoint_every: 4
model:
  class_path: my_lab.parts.Tuning
  init_args:
    student:
      class_path: kdlight.diffusion.denoisers.EDMDenoiser
      init_args:
        network: {class_path: my_lab.parts.Tiny, init_args: {shape: [1, 8, 8]}}
        sigma_min: 0.02
    shape: [1, 8, 8]
    optimizer: {lr: 0.001}
    iterations: 10
    stages: 2
    distance: {class_path: my_lab.parts.Cubic}
data:
  class_path: datamodules.images.digits.DigitsDataModule
  init_args: {batch_size: 16, steps_per_epoch: 5}
trainer: {accelerator: cpu, enable_progress_bar: false}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout with the package, its configuration and a run of it."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "my_lab").mkdir()
    (folder / "my_lab" / "__init__.py").touch()
    (folder / "my_lab" / "parts.py").write_text(PACKAGE)
    (folder / "lab.yaml").write_text(CONFIG)
    assert kdlight(folder, "fit", "--config", "lab.yaml").returncode == 0
    return folder


def kdlight(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, started in the user's folder."""
    return subprocess.run(
        [sys.executable, "-m", "kdlight", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_it_resumes_to_the_same_weights(lab: Path) -> None:
    stopped = kdlight(lab, "fit", "--config", "lab.yaml", "--name", "half", "--trainer.max_steps=6")
    assert stopped.returncode == 0, stopped.stderr
    done = kdlight(lab, "fit", "--config", "lab.yaml", "--name", "half", "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    whole = lab / "runs/lab/version_0/checkpoints/last.ckpt"
    assert_same_weights(whole, lab / "runs/half/version_1/checkpoints/last.ckpt")


@pytest.mark.slow
def test_it_samples_and_exports_with_consent_and_is_refused_without(lab: Path) -> None:
    checkpoint = "runs/lab/version_0/checkpoints/last.ckpt"
    sample = ["sample", "--checkpoint", checkpoint, "--num-samples", "4"]
    refused = kdlight(lab, *sample, "--output", "refused.npz")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "last.ckpt" in refused.stderr
    assert "--trust my_lab" in refused.stderr
    assert not (lab / "refused.npz").exists()

    given = kdlight(lab, *sample, "--output", "run.npz", "--trust", "my_lab")
    assert given.returncode == 0, given.stderr
    model = lab / "student.safetensors"
    words = ["export", "--checkpoint", checkpoint, "--output", model.name, "--trust=my_lab"]
    assert kdlight(lab, *words).returncode == 0
    words = ["sample", "--checkpoint", model.name, "--num-samples", "4", "--output", "model.npz"]
    assert "student.json" in kdlight(lab, *words).stderr
    assert kdlight(lab, *words, "--trust", "my_lab").returncode == 0
    with np.load(lab / "run.npz") as run, np.load(lab / "model.npz") as exported:
        assert np.array_equal(run["arr_0"], exported["arr_0"])


@pytest.mark.slow
def test_what_no_file_can_describe_is_refused_before_training(lab: Path) -> None:
    network = "--model.init_args.student.init_args.network"
    arguments = '{"in_features": 2, "out_features": 2}'
    plain = f'{{"class_path": "my_lab.parts.Unrecorded", "init_args": {arguments}}}'
    refused = kdlight(lab, "fit", "--config", "lab.yaml", "--name", "plain", f"{network}={plain}")
    assert refused.returncode == 2, refused.stderr
    assert "derive its class from kdlight.core.spec.Recorded" in refused.stderr
    assert not (lab / "runs" / "plain").exists()


def test_a_users_line_is_named_also_inside_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(verb: str, argv: list[str]) -> None:
        raise ZeroDivisionError("no such luck")

    # This file lies where a user's package may lie: in the checkout, beside kdlight.
    line = crash.__code__.co_firstlineno + 1
    monkeypatch.setattr("kdlight.commands.list.run", crash)
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        assert main(["list"]) == 1
    assert f"no such luck at tests/test_own_package.py:{line}" in error.getvalue()


@pytest.mark.slow
def test_a_crash_in_the_users_step_names_its_line(lab: Path) -> None:
    words = ["--config", "lab.yaml", "--name", "crash", "--model.init_args.fail", "true"]
    crashed = kdlight(lab, "fit", *words)
    line = PACKAGE.splitlines().index('            raise ZeroDivisionError("no such luck")') + 1
    assert crashed.returncode == 1
    assert f"failed: no such luck at my_lab/parts.py:{line}" in crashed.stderr
