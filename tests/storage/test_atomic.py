"""Whole files and folders, full disks, and what killed writers leave."""

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kdlight.cli import _full_disks_said_once
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


def test_a_writer_that_hides_the_systems_number(tmp_path: Path) -> None:
    """C++ says something of its own where a write fails; the file's name and the reason are said.

    A limit on the size of files stands in for a full disk: the same writes fail.
    """
    path = tmp_path / "model.bin"
    path.write_text("good")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
        with (
            pytest.raises(OSError, match="larger than this disk") as caught,
            atomic_path(path) as temporary,
        ):
            with pytest.raises(OSError, match="too large"):
                temporary.write_bytes(bytes(2**17))
            raise RuntimeError("[enforce fail at inline_container.cc:1] unexpected pos")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    found = full_disk(caught.value)
    assert found is not None
    assert (found.errno, found.filename) == (errno.EFBIG, str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["model.bin"]
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
