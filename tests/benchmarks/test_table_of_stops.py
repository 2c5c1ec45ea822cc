"""A part of the table of stops: signals and a kill, in the middle of an epoch and of a write."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_stops_are_quiet_keep_a_checkpoint_and_are_continued_to_the_bit() -> None:
    asked = ["--stops", "SIGTERM", "SIGINT", "kill -9", "--moments", "mid-epoch", "writing"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.stops", *asked],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()[2:]
    ]
    said = {"SIGTERM": "kdlight fit: stopped.", "kill -9": ""}
    said["SIGINT"] = f"stopping after this batch; once more stops at once / {said['SIGTERM']}"
    # A signal is heard behind the batch, a kill leaves the checkpoint before it.
    assert rows == [
        ["SIGTERM", "mid-epoch", "143", said["SIGTERM"], "checkpoint of iteration 9", "bit-equal"],
        ["SIGTERM", "writing", "143", said["SIGTERM"], "checkpoint of iteration 10", "bit-equal"],
        ["SIGINT", "mid-epoch", "130", said["SIGINT"], "checkpoint of iteration 9", "bit-equal"],
        ["SIGINT", "writing", "130", said["SIGINT"], "checkpoint of iteration 10", "bit-equal"],
        ["kill -9", "mid-epoch", "137", "", "checkpoint of iteration 5", "bit-equal"],
        ["kill -9", "writing", "137", "", "checkpoint of iteration 5, 1 half file", "bit-equal"],
    ]
