"""A small finished run, and the command line called in this process."""

from pathlib import Path

import pytest

from kdlight.cli import main
from tests.commands.tiny import TINY, Result, Run


@pytest.fixture
def kdlight(capsys: pytest.CaptureFixture[str]) -> Run:
    """``python -m kdlight`` with these words."""

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of ``tiny.yaml``."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["fit", "--config", str(TINY), "--runs_dir", str(runs)]) == 0
    return runs / "tiny" / "version_0"


@pytest.fixture(scope="session")
def checkpoint(run_folder: Path) -> Path:
    """The last checkpoint of that run."""
    return run_folder / "checkpoints" / "last.ckpt"
