"""Two processes at half the batch do what one does at the whole, into one run folder."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdlight.cli import main
from tests.commands.tiny import TINY

DDP = Path(__file__).resolve().parents[2] / "configs" / "base" / "ddp.yaml"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "kdlight"]
LAUNCHES = {
    "torchrun": [*TORCHRUN, "fit", "--config", str(DDP)],
    "lightning": ["-m", "kdlight", "fit", "--config", str(DDP)],
}
CPUS = ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]


def table(folder: Path) -> list[dict[str, Any]]:
    """Logged rows and the rows of the summary, without times."""
    with (folder / "metrics.csv").open() as stream:
        logged = list(csv.DictReader(stream))
    summary = json.loads((folder / "summary.json").read_text())
    return [
        {key: value for key, value in row.items() if value not in ("", None)}
        for row in [*logged, *summary]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("launch", LAUNCHES)
def test_two_processes_log_what_one_does(launch: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    whole = ["--config", str(TINY), "--data.init_args.batch_size", "32", "--runs_dir", str(one)]
    assert main(["fit", *whole]) == 0
    words = ["--config", str(TINY), "--runs_dir", str(two), *CPUS]
    done = subprocess.run(
        [sys.executable, *LAUNCHES[launch], *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unused parameters" not in done.stderr, "torch's warning of a needless search"
    assert done.stdout.count("report.html") == 1, "the first rank alone speaks"
    assert [path.name for path in (two / "tiny").iterdir()] == ["version_0"]
    for runs in (one, two):
        events = list((runs / "tiny" / "version_0").glob("events.out.tfevents.*"))
        assert len(events) == 1, "one rank logs"
    alone, together = (table(runs / "tiny" / "version_0") for runs in (one, two))
    assert len(alone) == len(together)
    for a, b in zip(alone, together, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            try:
                expected, found = float(a[key]), float(b[key])
            except ValueError:
                assert a[key] == b[key]
                continue
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-4), key
