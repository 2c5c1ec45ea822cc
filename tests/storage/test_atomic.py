"""Whole files and folders, full disks, and what killed writers leave."""

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from torch import nn

from kdlight.cli import _full_disks_said_once
from kdlight.export.traced import write_program
from kdlight.storage import atomic
from kdlight.storage.atomic import DAY, atomic_folder, atomic_path, full_disk, sweep

KILLED = """
import os, sys
from pathlib import Path
from kdlight.storage.atomic import atomic_folder, atomic_path
place = Path(sys.argv[1])
with atomic_path(place / "last.ckpt") as file, atomic_folder(place / "out", "m") as folder:
    file.write_text("half"), (folder / "m").write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder in which a process was killed while it wrote a file and a folder."""
    (tmp_path / "last.ckpt").write_text("whole")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.glob(".*"))) == 2
    return tmp_path


def test_the_next_writer_removes_what_a_killed_one_left(killed: Path) -> None:
    others = [killed / ".last.ckpt.x1y2z3.ckpt", killed / ".kdlight-notes", killed / ".hidden"]
    for other in others:
        other.write_text("not ours")
    with atomic_path(killed / "anything.json") as temporary:
        temporary.write_text("new")
    assert sorted(killed.iterdir()) == sorted(
        [*others, killed / "anything.json", killed / "last.ckpt"]
    )
    assert (killed / "last.ckpt").read_text() == "whole"


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as file, atomic_folder(tmp_path / "b", "m") as folder:
        sweep(tmp_path)
        assert file.is_file()
        assert folder.is_dir()


def test_a_writer_elsewhere_is_left_a_day(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_place", lambda: "another")
    left = list(killed.glob(".*"))
    sweep(killed.parent, below=True)
    assert all(path.exists() for path in left)
    for each in [*left, *(inner for path in left for inner in path.rglob("*"))]:
        os.utime(each, times=(time.time() - DAY - 60,) * 2)
    sweep(killed.parent, below=True)
    assert not any(path.exists() for path in left)


def test_an_export_killed_while_it_replaced_another_gives_that_back(killed: Path) -> None:
    work = next(path for path in killed.glob(".*") if path.is_dir())
    (work / "old").mkdir()
    (work / "old" / "m").write_text("earlier")
    sweep(killed)
    assert (killed / "out" / "m").read_text() == "earlier"
    assert not list(killed.glob(".*"))


SAMPLES = torch.linspace(-1, 1, 2**16)
WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.ckpt": lambda path: torch.save({"x": SAMPLES}, path),
    "a.safetensors": lambda path: save_file({"x": SAMPLES}, path),
    "a.wav": lambda path: soundfile.write(str(path), SAMPLES.numpy(), 16_000),
    "a.npz": lambda path: np.savez(path, x=SAMPLES.numpy()),
    "a.pt2": lambda path: write_program(
        nn.Conv1d(1, 64, 512, 1, 256), SAMPLES[:1920].reshape(2, 1, 960), 16, path
    ),
    "a.json": lambda path: path.write_text("x" * 2**18),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_names_the_file_and_leaves_the_good_one(name: str, tmp_path: Path) -> None:
    """C++ and Rust say something of their own where a write fails.

    A limit on the size of files stands in for a full disk: the same writes fail.
    """
    path = tmp_path / name
    path.write_text("good")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, limits[1]))
        with (
            pytest.raises(OSError, match="larger than this disk") as caught,
            atomic_path(path) as temporary,
        ):
            WRITERS[name](temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = full_disk(caught.value)
    assert found is not None
    assert (found.errno, found.filename) == (errno.EFBIG, str(path))
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert path.read_text() == "good"


def test_another_failure_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), atomic_path(tmp_path / "a"):
        raise RuntimeError("mine")
    rust = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    found = full_disk(rust)
    assert found is not None
    assert found.errno == errno.ENOSPC
    assert full_disk(ValueError("no")) is None


def test_the_file_is_named_whichever_of_the_errors_knew_it() -> None:
    """Behind a checkpoint that found no room, the logger finds none for metrics.csv."""
    first = OSError(errno.ENOSPC, "no room", "last.ckpt")
    second = OSError(errno.ENOSPC, "no room")
    second.__context__ = first
    found = full_disk(second)
    assert found is not None
    assert (found.filename, found.strerror) == ("last.ckpt", "the disk is full")


def test_a_thread_leaves_it_to_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda found: said.append(str(found.exc_value)))

    def fail(error: Exception) -> None:
        raise error

    with _full_disks_said_once():
        for error in (OSError(errno.ENOSPC, "no room"), ValueError("another")):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    assert said == ["another"]
