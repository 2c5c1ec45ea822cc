"""A small finished run, and the command line called in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kdlight.cli import main

TINY = Path(__file__).parent / "tiny.yaml"


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


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
    return run_folder / "checkpoints" / "last.ckpt"


def tree(folder: Path) -> dict[str, int]:
    """Every path below a folder and when it last changed."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")
    }
