"""What the tests of the command line share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from kdlight.storage.files import load_checkpoint

TINY = Path(__file__).parent / "tiny.yaml"


class Result(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def tree(folder: Path) -> dict[str, int]:
    """Every path below a folder and when it last changed."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's modules."""
    state = load_checkpoint(checkpoint)["state_dict"]
    return {key: value for key, value in state.items() if torch.is_tensor(value)}


def assert_same_weights(first: Path, second: Path) -> None:
    """Two checkpoints hold the same weights, to the bit."""
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert not [key for key in a if not torch.equal(a[key], b[key])]


def last_line(text: str) -> Path:
    """The path that a command prints last."""
    return Path(text.strip().splitlines()[-1].strip())


def refused(run: Run, words: Sequence[object], *expected: str, where: Path) -> None:
    """Exit code 2, one sentence that holds what is expected, and nothing written."""
    before = tree(where)
    code, out, err = run(*words)
    assert code == 2, err
    assert err.startswith("kdlight ")
    assert err.count("\n") == 1, "one line"
    assert "Traceback" not in err + out
    for text in expected:
        assert text in err
    assert tree(where) == before, "something was written"
