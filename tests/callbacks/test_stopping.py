"""SIGTERM while callbacks measure what a run ended in."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from kdlight.cli import main
from tests.commands.tiny import TINY


class Measuring(L.Callback):
    """Is told to stop while it measures, for longer than anybody waits."""

    def on_train_end(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(20):
            time.sleep(0.1)

    def on_test_end(self, *_: Any) -> None:
        self.on_train_end()


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_it_stops_at_once(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", str(TINY), "--runs_dir", str(tmp_path)]
    measuring = f"--trainer.callbacks+={__name__}.Measuring"
    last = tmp_path / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    before = signal.getsignal(signal.SIGTERM)
    if verb == "test":
        assert main(["fit", *words]) == 0
        words += ["--ckpt_path", str(last)]
    assert main([verb, *words, measuring]) == 143
    assert capsys.readouterr().err.endswith(f"kdlight {verb}: stopped.\n")
    assert last.is_file()
    assert signal.getsignal(signal.SIGTERM) == before
