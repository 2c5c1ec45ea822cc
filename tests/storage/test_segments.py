"""Manifests of segments, and segments of files."""

import json
from pathlib import Path

import pytest
import soundfile
import torch

from kdlight.errors import InputError
from kdlight.storage.audio import read_audio
from kdlight.storage.segments import Segment, is_manifest, read_segments
from tests.metrics.speech.signals import voice

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two seconds of audio in ``x/a.wav``."""
    (tmp_path / "x").mkdir()
    soundfile.write(tmp_path / "x" / "a.wav", voice(2.0, RATE).numpy(), RATE)
    return tmp_path


def test_three_forms_name_the_same_segments(folder: Path) -> None:
    rows = [
        {"audio": "x/a.wav", "start": 0.5, "end": 1.25, "transcript": "good morning"},
        {"audio": "x/a.wav", "start": 1.5, "transcript": "you"},
        {"audio": "x/a.wav", "id": "all/of.it", "end": 2.004, "transcript": "both"},
        {"audio": str(folder / "x" / "a.wav"), "transcript": "both"},
    ]
    columns = ("audio", "start", "end", "id", "transcript")
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for suffix, mark in ((".csv", ","), (".tsv", "\t")):
        lines = [mark.join(columns)]
        lines += [mark.join(str(row.get(name, "")) for name in columns) for row in rows]
        (folder / f"m{suffix}").write_text("\n".join(lines))
    file = folder / "x" / "a.wav"
    for suffix in (".jsonl", ".csv", ".tsv"):
        found = read_segments(folder / f"m{suffix}")
        assert [each.name for each in found] == [
            "x/a_0.500-1.250", "x/a_1.500-end", "all/of.it", "a",
        ]  # fmt: skip
        assert [each.segment for each in found] == [
            Segment(file, 4000, 6000),
            Segment(file, 12000, 4000),
            Segment(file, 0, 16000),
            Segment(file, 0, 16000),
        ]
        assert [each.transcript for each in found] == [row["transcript"] for row in rows]


def test_a_segment_is_that_part_of_the_file(folder: Path) -> None:
    file = folder / "x" / "a.wav"
    whole = read_audio(file)
    part = Segment(file, 4000, 6000)
    assert part.info().frames == 6000
    assert torch.equal(part.read(), whole[:, 4000:10000])
    assert torch.equal(Segment(file, 4000).read(), whole[:, 4000:])
    assert Segment(file, 4000).info().frames == 12000
    for rate, block in ((RATE, 1000), (16000, 1500)):
        pieces = list(part.stream(rate, block))
        assert len(pieces) > 3
        torch.testing.assert_close(torch.cat(pieces, dim=1), part.read(rate), atol=1e-6, rtol=0)


BAD = [
    ('{"audio": "x/b.wav"}', "line 1: .*b.wav: no such file"),
    ('{"audio": "m.jsonl"}', "line 1: .*m.jsonl: expected audio"),
    ('{"start": 1}', "line 1: expected a value of audio, found none"),
    ('{"audio": "x/a.wav", "start": "soon"}', "line 1: start: expected seconds, found 'soon'"),
    ('{"audio": "x/a.wav", "end": NaN}', "line 1: end: expected seconds, found 'nan'"),
    ('{"audio": "x/a.wav", "start": -1}', "start before an end in the 2 s of a.wav, found -1 and"),
    ('{"audio": "x/a.wav", "start": 1, "end": 1}', "start before an end .* found 1 and 1"),
    ('{"audio": "x/a.wav", "end": 2.5}', "start before .* of a.wav, found 0 and 2.5"),
    ('{"audio": "x/a.wav", "start": 2, "end": 2.001}', "line 1: expected at least a sample"),
    ('{"audio": "x/a.wav", "id": "../a"}', "line 1: id: expected a name of a file"),
    ('{"audio": "x/a.wav"}\n{"audio": "x/a.wav"}', "line 2: expected a row of its own, found"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD)
def test_what_is_wrong_with_a_row_is_one_sentence(folder: Path, text: str, words: str) -> None:
    (folder / "m.jsonl").write_text(text)
    with pytest.raises(InputError, match=words) as found:
        read_segments(folder / "m.jsonl")
    assert len(str(found.value).splitlines()) == 1
    assert str(found.value).startswith(str(folder / "m.jsonl"))


def test_folders_and_audio_are_no_manifests(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    assert not is_manifest(tmp_path / "a.csv")
    assert not is_manifest(tmp_path / "a.wav")
    assert is_manifest(tmp_path / "b.CSV")
