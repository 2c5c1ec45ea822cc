"""Manifests of speech: tables of two kinds, and what is wrong with a line."""

import json

import pytest
import soundfile
import torch

from datamodules.speech.manifest import read_manifest
from datamodules.speech.speech_folder import SpeechFolderDataModule
from kdlight.errors import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def facts(path):
    return [(each.path, each.transcript, each.speaker) for each in read_manifest(path)]


def test_a_table_and_lines_of_json_say_the_same(tmp_path):
    table = write(
        tmp_path / "a.tsv",
        'speaker\taudio\tseconds\ttranscript\nanna\tx/1.wav\t3\t"Good" morning\n\n'
        "bert \t/data/2.flac\t4\tNaïve\u2028 \x85text\n",
    )
    rows = [
        {"audio": "x/1.wav", "speaker": "anna", "transcript": '"Good" morning', "seconds": 3},
        {"audio": "/data/2.flac", "speaker": "bert", "transcript": "Naïve\u2028 \x85text"},
    ]
    lines = write(
        tmp_path / "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    )
    expected = [
        (tmp_path / "x/1.wav", '"Good" morning', "anna"),
        (tmp_path.__class__("/data/2.flac"), "Naïve\u2028 \x85text", "bert"),
    ]
    quoted = write(
        tmp_path / "a.csv",
        'speaker,audio,transcript\nanna,x/1.wav,"""Good"" morning"\n\n'
        "bert ,/data/2.flac,Naïve\u2028 \x85text\n",
    )
    assert facts(table) == facts(lines) == facts(quoted) == expected
    assert [each.name for each in read_manifest(table)] == ["x/1.wav", "/data/2.flac"]


def test_windows_files_and_missing_transcripts_are_read(tmp_path):
    table = tmp_path / "a.TSV"
    table.write_bytes("\ufeffaudio\tspeaker\r\n1.wav\tanna\r\n".encode())
    assert facts(table) == [(tmp_path / "1.wav", "", "anna")]
    lines = write(tmp_path / "a.jsonl", '{"audio": "1.wav", "speaker": 17, "transcript": null}\n\n')
    assert facts(lines) == [(tmp_path / "1.wav", "", "17")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.tsv", "", "expected a row for every file, found none"),
        ("a.tsv", "audio\tspeaker\n", "expected a row for every file, found none"),
        ("a.tsv", "path\tspeaker\n1\ta", "expected a header with the columns audio, .* found path"),
        ("a.tsv", "audio\ttranscript\n1\ta", "expected a header with the columns"),
        ("a.tsv", "audio\tspeaker\n1\ta\n\n2", "line 4: expected 2 columns, found 1"),
        ("a.tsv", "audio\tspeaker\n1\ta\tb", "line 2: expected 2 columns, found 3"),
        ("a.tsv", "audio\tspeaker\n1\ta\n \tb", "line 3: expected a value of audio, found none"),
        ("a.tsv", "audio\tspeaker\n1\t ", "line 2: expected a value of speaker, found none"),
        ("a.tsv", "audio\tspeaker\n1\ta\n1\ta", "line 3: expected another file, found 1 again"),
        ("a.jsonl", "\n", "expected a row for every file, found none"),
        ("a.jsonl", '{"audio": "1", "speaker": "a"}\n{"audio"', "line 2: expected JSON, found"),
        ("a.jsonl", "[1, 2]", "line 1: expected an object with the keys audio, transcript"),
        ("a.jsonl", '\n{"audio": "1"}', "line 2: expected a value of speaker, found none"),
        ("a.jsonl", '{"speaker": "1"}', "line 1: expected a value of audio, found none"),
        ("a.csv", "audio,speaker\n1,a,b", "line 2: expected 2 columns, found 3"),
        ("a.csv", 'audio,speaker\n1,"a"b', "line 2: expected a row of CSV, found something else"),
        (
            "a.csv",
            "audio,speaker,audio\n1,a,2",
            "line 1: expected every column once, found 'audio'",
        ),
        (
            "a.jsonl",
            '{"audio": "1", "speaker": ["a"]}',
            "speaker: expected text or a number, found a",
        ),
        ("a.jsonl", '{"audio": "1", "speaker": true}', "found true or false"),
        (
            "a.jsonl",
            '{"audio": "1", "speaker": "a", "end": 2}',
            "line 1: end: expected whole files",
        ),
        ("a.txt", "audio,speaker", r"expected a manifest that ends in \.csv, \.tsv or \.jsonl"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_in_one_sentence(tmp_path, name, text, words):
    with pytest.raises(InputError, match=words) as refusal:
        read_manifest(write(tmp_path / name, text))
    assert str(refusal.value).startswith(f"{tmp_path / name}: ")


def test_no_text_and_no_file_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"audio\tspeaker\n\xff\xfe\t1")
    with pytest.raises(InputError, match="expected text in UTF-8"):
        read_manifest(tmp_path / "a.tsv")
    with pytest.raises(InputError, match="no such file"):
        read_manifest(tmp_path / "b.tsv")


def test_a_manifest_makes_a_data_set_and_its_missing_files_are_left_out(tmp_path):
    for number in range(2):
        samples = torch.randn(2000, generator=torch.Generator().manual_seed(number)) / 10
        soundfile.write(str(tmp_path / f"{number}.wav"), samples.numpy(), 8000)
    table = write(
        tmp_path / "a.tsv",
        "audio\ttranscript\tspeaker\n0.wav\tOne.\tanna\n1.wav\tTwo.\tbert\n2.wav\t\tanna\n",
    )
    data = SpeechFolderDataModule(str(table), sample_rate=8000, hop_length=80, heldout=["bert"])
    with pytest.warns(UserWarning, match=r"1 of 3 files are left out: 1 missing \(2\.wav\)\."):
        splits = data.splits
    assert [(one.transcript, one.speaker) for one in splits.training] == [("One.", "anna")]
    assert [(one.transcript, one.speaker) for one in splits.heldout] == [("Two.", "bert")]
