"""A run that is killed again and again ends with the weights of the run that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kdlight.commands.train  # noqa: F401  (so that importing it is not part of a run's length)
from kdlight.cli import main
from kdlight.commands.shared.folders import checkpoints, newest_checkpoint
from kdlight.storage.files import load_checkpoint
from tests.commands.tiny import TINY, assert_same_weights

KILLS = 10
ITERATIONS = 400
SETTINGS = [
    *("--config", str(TINY)),
    *("--model.init_args.round_iterations", str(ITERATIONS // 2)),
    *("--checkpoint_every", "5"),
]


def start(runs: Path) -> subprocess.Popen[bytes]:
    """Start the run, or continue it if it has a checkpoint."""
    words = ["fit", *SETTINGS, "--runs_dir", str(runs)]
    if any(checkpoints(runs / "tiny")):
        words += ["--ckpt_path", "last"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "kdlight", *words],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def iteration_of(path: Path) -> int:
    return int(load_checkpoint(path)["state_dict"]["_extra_state"]["iteration"])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The last checkpoint of a run that nothing stopped, and how many seconds it took."""
    runs = tmp_path_factory.mktemp("unbroken")
    started = time.monotonic()
    assert main(["fit", *SETTINGS, "--runs_dir", str(runs)]) == 0
    return newest_checkpoint(runs / "tiny", "here"), time.monotonic() - started


@pytest.mark.slow
def test_ten_kills_at_random_moments(unbroken: tuple[Path, float], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    expected, length = unbroken
    source = random.Random(0)
    reached = 0
    for kill in range(KILLS):
        process = start(broken)
        version = broken / "tiny" / f"version_{kill}"
        # Every second kill comes after some progress, the others maybe before any.
        mark = version / ("checkpoints/last.ckpt" if kill % 2 else "config.yaml")
        while not mark.is_file():
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.005)
        # Short enough that all of them together do not reach the end.
        time.sleep(source.uniform(0, 0.8 * length / KILLS))
        assert process.poll() is None, "killed too late to test anything"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        facts = json.loads((version / "run.json").read_text())
        assert (facts["resumed_from"] is not None) == (reached > 0)
        if any(checkpoints(broken / "tiny")):
            iteration = iteration_of(newest_checkpoint(broken / "tiny", "here"))
            assert iteration >= reached
            assert iteration % 5 == 0
            reached = iteration
    assert 0 < reached < ITERATIONS, "some kills came after a checkpoint, none after the end"

    process = start(broken)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    last = broken / "tiny" / f"version_{KILLS}"
    assert iteration_of(last / "checkpoints" / "last.ckpt") == ITERATIONS
    assert_same_weights(expected, last / "checkpoints" / "last.ckpt")
    # What a killed writer leaves behind confuses nobody, and killed runs can be reported on.
    assert newest_checkpoint(broken / "tiny", "here") == last / "checkpoints" / "last.ckpt"
    versions = sorted((broken / "tiny").glob("version_*"))
    page = tmp_path / "page.html"
    assert main(["report", *map(str, versions), "--output", str(page)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly(
    sent: signal.Signals, unbroken: tuple[Path, float], tmp_path: Path
) -> None:
    process = start(tmp_path)
    first = tmp_path / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    while not first.is_file():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.005)
    time.sleep(0.3)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert errors.decode().endswith("kdlight fit: stopped.\n")
    assert 0 < iteration_of(first) < ITERATIONS

    process = start(tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    last = tmp_path / "tiny" / "version_1" / "checkpoints" / "last.ckpt"
    assert_same_weights(unbroken[0], last)
