"""What is no fault of the input: exit code 1, and where it happened."""

import json
from pathlib import Path

import pytest

from tests.commands.tiny import TINY, Run


def test_a_failure_of_another_kind_is_exit_code_1(
    kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, batch: object) -> None:
        raise RuntimeError("out of luck")

    path = "modules.diffusion.progressive_distillation.ProgressiveDistillation.step"
    monkeypatch.setattr(path, fail)
    code, _, err = kdlight("fit", "--config", TINY, "--runs_dir", tmp_path)
    assert code == 1
    # A step that is not kdlight's own is named by its line.
    where = f"commands/test_failures.py:{fail.__code__.co_firstlineno + 1}"
    assert err == f"kdlight fit: failed: out of luck at {where} (KDLIGHT_DEBUG=1 shows where)\n"
    facts = json.loads((tmp_path / "tiny" / "version_0" / "run.json").read_text())
    assert "iterations" not in facts, "the record says that the run did not end"
