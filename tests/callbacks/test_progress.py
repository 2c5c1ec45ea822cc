"""What the progress bar says of a run."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdlight.callbacks.progress import StageProgress, describe_figures
from kdlight.cli import main
from tests.commands.tiny import TINY


def trainer(**metrics: float) -> Any:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.00025)
    logged = {f"train/{name}": torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(callback_metrics=logged, optimizers=[optimizer], is_global_zero=True)


def test_losses_and_the_learning_rate_are_named() -> None:
    assert describe_figures(trainer(loss=0.12345, non_finite=0.0)) == "loss 0.123, lr 0.00025"
    assert describe_figures(trainer()) == "lr 0.00025"
    many = describe_figures(trainer(**{f"loss_{index}": 1.0 for index in range(9)}))
    assert many.count("loss_") == 4


def test_nothing_is_read_between_two_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a loss waits for the device."""

    def unexpected(*_: object) -> str:
        raise AssertionError("read though nothing is drawn")

    monkeypatch.setattr("kdlight.callbacks.progress.describe_figures", unexpected)
    progress = StageProgress(interval=1e9)
    progress.on_train_start(trainer(), torch.nn.Module())  # type: ignore[arg-type]
    for index in range(5):
        progress.on_train_batch_end(trainer(), torch.nn.Module(), None, None, index)  # type: ignore[arg-type]


def test_a_run_prints_its_losses(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setattr("kdlight.commands.train.StageProgress", lambda: StageProgress(interval=0.0))
    assert main(["fit", "--config", str(TINY), "--runs_dir", str(tmp_path)]) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if "iteration" in line]
    assert "lr 0.001" in " ".join(lines)
    assert "distillation 0." in lines[-1]
