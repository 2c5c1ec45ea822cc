"""What is found below a folder: any audio, through links, once; texts of any editor."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from kdlight.commands.decode import find_codes
from kdlight.errors import InputError
from kdlight.storage.audio import find_audio, read_audio
from kdlight.storage.documents import read_documents
from kdlight.storage.folders import files_below
from kdlight.storage.pictures import find_pictures
from kdlight.storage.text import read_lines, read_text


def test_links_are_followed_once_and_never_in_a_circle(tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    (data / "a").mkdir(parents=True)
    store.mkdir()
    for path in (data / "a" / "1.PNG", data / ".hidden.png", store / "2.png", data / "a" / "n.txt"):
        path.touch()
    (data / "a" / "more").symlink_to(store)
    (data / "again").symlink_to(store)
    (store / "back").symlink_to(data)
    (data / "self").symlink_to(data)
    (data / "a" / "nothing.png").symlink_to(store / "gone.png")
    found = [str(path.relative_to(data)) for path in files_below(data, {".png"})]
    assert found == ["a/1.PNG", "a/nothing.png", "again/2.png"]


@pytest.mark.parametrize(
    ("find", "suffix"),
    [(find_pictures, "png"), (find_audio, "wav"), (read_documents, "txt"), (find_codes, "npz")],
)
def test_pipes_among_files_are_said_and_never_opened(
    find: Callable[[Path], list[Any]], suffix: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / f"0.{suffix}")
    (tmp_path / f"1.{suffix}").write_text("a")
    (tmp_path / f"2.{suffix}").symlink_to(tmp_path / f"0.{suffix}")
    with pytest.warns(UserWarning, match=f"0.{suffix} and 1 others: pipes or devices, .* left out"):
        assert len(find(tmp_path)) == 1


def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    listed = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for read in (files_below, read_documents):
        with pytest.raises(InputError, match="closed: no permission to read"):
            read(tmp_path)


def test_texts_of_linked_folders_are_read(tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    for folder, name in ((data, "a.txt"), (store, "b.txt")):
        folder.mkdir()
        (folder / name).write_text(name)
    (data / "more").symlink_to(store)
    assert [each.text for each in read_documents(data)] == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.oga", "OGG"), ("a.SPH", "NIST"), ("a.caf", "CAF"), ("a.w64", "W64"),
        ("a.aifc", "AIFF"), ("a.snd", "AU"), ("a.voc", "VOC"), ("a.rf64", "RF64"),
    ],
)  # fmt: skip
def test_audio_is_found_by_any_of_its_names(name: str, form: str, tmp_path: Path) -> None:
    soundfile.write(str(tmp_path / name), [0.1] * 1600, 16_000, format=form)
    assert find_audio(tmp_path) == [tmp_path / name]


def test_audio_that_nobody_here_reads_is_found_too_and_not_passed_over(tmp_path: Path) -> None:
    for name in ("a.m4a", "b.Webm", "c.raw"):
        (tmp_path / name).write_bytes(b"ftyp")
    assert find_audio(tmp_path) == [tmp_path / name for name in ("a.m4a", "b.Webm", "c.raw")]
    for path in find_audio(tmp_path):
        with pytest.raises(InputError, match=f"libsndfile reads, .* found {path.suffix}."):
            read_audio(path)


def test_audio_of_any_name_is_found_and_what_is_none_is_not(tmp_path: Path) -> None:
    for name, form in (("a.take1", "WAV"), ("b", "FLAC"), ("c.sf", "IRCAM")):
        soundfile.write(str(tmp_path / name), [0.1] * 1600, 16_000, format=form)
    for name in ("a.txt", "notes.md", "tokens.npz", "d.TextGrid"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 4)
    assert find_audio(tmp_path) == [tmp_path / name for name in ("a.take1", "b", "c.sf")]
    assert read_audio(tmp_path / "b").shape == (1, 1600)


def test_texts_of_any_editor(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a\thello\u2028you\nb\tthere\n", encoding="utf-8-sig")
    assert read_lines(path) == ["a\thello\u2028you", "b\tthere"]
    assert read_text(path)[0] == "a"
    path.write_bytes("\u00e4".encode("latin-1"))
    with pytest.raises(InputError, match=r"t.txt: expected text in UTF-8"):
        read_text(path)
