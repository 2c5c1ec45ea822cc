"""A fixed part of the fuzz, and whether its judge sees what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.damage.anything import CANARY
from tests.fuzz.judge import fault
from tests.fuzz.process import Outcome

SEED, CASES = 0, 100


@pytest.mark.slow
def test_no_case_is_missed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seed", str(SEED), "--cases", str(CASES)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"| all | {CASES} | {CASES} | 0 |" in done.stdout


SENTENCE = "kdlight fit: lr: expected a number above 0, found -1.\n"


@pytest.mark.parametrize(
    ("outcome", "made", "expected"),
    [
        (Outcome(0, "", "warning: anything\n", 1.0), [], None),
        (Outcome(2, "", SENTENCE, 1.0), [], None),
        (Outcome(2, "", "Speaking: 1%\rSpeaking: 2%\r   \r" + SENTENCE, 1.0), [], None),
        (Outcome(2, "", SENTENCE * 2, 1.0), [], "2 lines"),
        (Outcome(2, "", "warning: anything\n" + SENTENCE, 1.0), [], "2 lines"),
        (Outcome(2, "", "", 1.0), [], "0 lines"),
        (Outcome(2, "", SENTENCE, 1.0), ["out.json"], "wrote out.json"),
        (Outcome(0, "", "", 1.0), [".out.json.x1"], "left .out.json.x1"),
        (Outcome(None, "", "", 60.0), [], "hung"),
        (Outcome(-11, "", "", 1.0), [], "ended with -11"),
        (Outcome(1, "", "Traceback (most recent call last):\n", 1.0), [], "a traceback"),
        (Outcome(2, "", "'NoneType' object is not iterable\n", 1.0), [], "not a user's words"),
        (Outcome(1, "", "kdlight fit: failed: broken\n", 1.0), [], "called a failure"),
    ],
)
def test_the_judge(outcome: Outcome, made: list[str], expected: str | None, tmp_path: Path) -> None:
    for name in made:
        (tmp_path / name).touch()
    found = fault("fit", outcome, set(), tmp_path)
    assert found is None if expected is None else found is not None and expected in found


def test_the_judge_sees_code_that_ran(tmp_path: Path) -> None:
    CANARY.mkdir()
    assert fault("fit", Outcome(0, "", "", 1.0), set(), tmp_path) == "ran code of a file"
    assert not CANARY.exists()
