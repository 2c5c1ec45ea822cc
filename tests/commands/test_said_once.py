"""A refusal is one sentence: what was warned of before it is not said, nor is a folder left."""

import io
import os
import sys
import warnings
from pathlib import Path

import pytest

from kdlight import cli, warned
from kdlight.commands import train
from kdlight.errors import InputError
from tests.commands.tiny import TINY, Run, refused

Ending = BaseException | None
ENDINGS: dict[str, tuple[Ending, int, list[str]]] = {
    "refused": (InputError("x: wrong."), 2, ["kdlight list: x: wrong."]),
    "a place": (FileExistsError(17, "File exists", "x"), 2, ["kdlight list: x: expected a free"]),
    "failed": (
        RuntimeError("bad luck"),
        1,
        ["warning: odd data", "kdlight list: failed: bad luck"],
    ),
    "worked": (None, 0, ["warning: odd data"]),
    "stopped": (KeyboardInterrupt(15), 143, ["warning: odd data", "kdlight list: stopped."]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_warning_is_said_unless_the_input_is_refused(
    ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, said = ENDINGS[ending]

    def run(verb: str, argv: list[str]) -> None:
        place = (UserWarning, "ours.py", 1)
        warnings.showwarning(UserWarning("odd\ndata"), *place)
        if error is not None:
            raise error

    monkeypatch.setattr("kdlight.commands.list.run", run)
    monkeypatch.setattr(cli, "stay_within", lambda: None)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("KDLIGHT_DEBUG", None)
    assert cli.program(["list"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    assert [line[: len(wanted)] for line, wanted in zip(lines, said, strict=True)] == said


def test_a_warning_is_not_held_for_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warned, "SECONDS", 0.01)
    warned.warn("odd data")
    timer = warned._held.timer
    assert timer is not None
    timer.join()
    assert capsys.readouterr().err == "warning: odd data\n"


def test_a_forked_process_says_what_it_finds_itself(capfd: pytest.CaptureFixture[str]) -> None:
    warned.warn("of the parent")
    child = os.fork()
    if child == 0:
        warned.warn("of the child")
        warned.release()
        sys.stderr.flush()
        os._exit(0)
    os.waitpid(child, 0)
    warned.drop()
    assert capfd.readouterr().err == "warning: of the child\n"


def test_a_place_that_is_wrong_leaves_no_folder_of_a_run(
    kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instead(self: object, *args: object, **kwargs: object) -> None:
        raise NotADirectoryError(20, "Not a directory", "laws/tokens.npy")

    monkeypatch.setattr(train.RunRecord, "on_fit_start", instead)
    words = ["fit", "--config", TINY, "--runs_dir", tmp_path / "runs"]
    refused(kdlight, words, "laws/tokens.npy: no such file or folder", where=tmp_path)


def test_words_that_no_file_or_configuration_holds(kdlight: Run, tmp_path: Path) -> None:
    refused(kdlight, ["list", "methods", "a\0b"], "without the character NUL", where=tmp_path)
    words = ["fit", "--config", TINY, "--runs_dir", tmp_path, "--name", "a\udcffb"]
    refused(kdlight, words, "expected words in UTF-8", r"a\udcffb", where=tmp_path)


def test_a_name_that_is_no_text_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(cli, "stay_within", lambda: None)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("kdlight.commands.list.run", lambda verb, argv: print("a\udcff.txt"))
    assert cli.program(["list"]) == 0
    out.flush()
    assert written.getvalue() == b"a\\udcff.txt\n"
