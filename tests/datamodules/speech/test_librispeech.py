"""LibriSpeech from a tiny tree of its layout; nothing is downloaded."""

import tarfile
import urllib.error

import pytest
import soundfile
import torch

from datamodules.speech import librispeech
from datamodules.speech.librispeech import LibriSpeechDataModule
from kdlight.errors import InputError

BOOK = {
    "train-clean-100": {
        (103, 1240): ["CHAPTER ONE", "MISSUS RACHEL LYNDE"],
        (26, 495): ["THE HOUSE"],
    },
    "dev-clean": {(84, 121123): ["GO DO YOU HEAR", "BUT IN LESS"], (174, 50561): ["FORGOTTEN TOO"]},
}


@pytest.fixture
def tree(tmp_path):
    for subset, chapters in BOOK.items():
        for (speaker, chapter), lines in chapters.items():
            folder = tmp_path / "LibriSpeech" / subset / str(speaker) / str(chapter)
            folder.mkdir(parents=True)
            names = [f"{speaker}-{chapter}-{number:04d}" for number in range(len(lines))]
            for name in names:
                soundfile.write(str(folder / f"{name}.flac"), torch.randn(4000).numpy() / 20, 16000)
            table = "".join(f"{name} {text}\n" for name, text in zip(names, lines, strict=True))
            (folder / f"{speaker}-{chapter}.trans.txt").write_text(table)
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(librispeech, "UTTERANCES", {"train-clean-100": 3, "dev-clean": 3})


def module(path, **arguments):
    settings = {"batch_size": 2, "segment": 0.1, "num_workers": 0, "download": False}
    return LibriSpeechDataModule(str(path), **{**settings, **arguments})


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_subsets_have_transcripts_and_speakers(tree, small, recwarn, cache_mb):
    data = module(tree, cache_mb=cache_mb)
    data.prepare_data()
    data.setup()
    found = [
        [(one.name.split("/", 1)[1], one.transcript, one.speaker) for one in part]
        for part in data.splits
    ]
    assert found == [
        [
            ("103/1240/103-1240-0000.flac", "CHAPTER ONE", "103"),
            ("103/1240/103-1240-0001.flac", "MISSUS RACHEL LYNDE", "103"),
            ("26/495/26-495-0000.flac", "THE HOUSE", "26"),
        ],
        [  # speakers in turns
            ("174/50561/174-50561-0000.flac", "FORGOTTEN TOO", "174"),
            ("84/121123/84-121123-0000.flac", "GO DO YOU HEAR", "84"),
            ("84/121123/84-121123-0001.flac", "BUT IN LESS", "84"),
        ],
    ]
    assert not recwarn.list
    batch = next(iter(data.train_dataloader()))
    assert batch["audio"].shape == (2, 1, 1600)
    assert sum(len(batch["path"]) for batch in data.val_dataloader()) == 3


def test_a_download_that_fails_is_told_in_one_sentence(tmp_path, small, monkeypatch):
    for error, words in (
        (urllib.error.URLError("no route to host"), "no route to host"),
        (RuntimeError("The hash does not match. Delete the file manually and retry."), "The hash"),
        (tarfile.ReadError("unexpected end of data"), "unexpected end of data"),
        (EOFError("Compressed file ended"), "Compressed file ended"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(librispeech, "LIBRISPEECH", fail)
        with pytest.raises(InputError, match=words) as refusal:
            module(tmp_path, download=True).prepare_data()
        assert str(refusal.value).startswith(
            f"{tmp_path}: holds no LibriSpeech/train-clean-100, and downloading it failed ("
        )


def test_what_is_there_is_not_fetched(tree, small, monkeypatch):
    from torchaudio.datasets import librispeech as original

    monkeypatch.setattr(original, "_download_librispeech", None)
    module(tree, download=True).prepare_data()


def test_a_subset_that_is_not_whole_is_told_of(tree, recwarn):
    module(tree).setup()
    messages = [str(warning.message) for warning in recwarn.list]
    assert len(messages) == 2
    assert "dev-clean: expected 2703 utterances, found 3; if unpacking was inter" in messages[1]


def test_missing_and_damaged_files_are_left_out(tree, small):
    folder = tree / "LibriSpeech" / "train-clean-100" / "103" / "1240"
    (folder / "103-1240-0000.flac").unlink()
    path = folder / "103-1240-0001.flac"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.warns(UserWarning, match="2 of 6 files are left out: 1 damaged .*, 1 missing"):
        assert len(module(tree).splits.training) == 1


def test_trees_that_are_none_are_refused(tree, small):
    with pytest.raises(InputError, match="LibriSpeech/train-clean-100: expected this subset"):
        module(tree / "nowhere").setup()
    for table in (tree / "LibriSpeech" / "dev-clean").rglob("*.txt"):
        table.write_bytes(b"84-1-0000 \xff\xfe")
    with pytest.raises(InputError, match=r"84-121123\.trans\.txt: expected text in UTF-8"):
        module(tree, heldout_subsets=["dev-clean"]).setup()
    for table in (tree / "LibriSpeech" / "dev-clean").rglob("*.txt"):
        table.write_text("\n\n")
    with pytest.raises(InputError, match=r"dev-clean: expected SPEAKER/CHAPTER/\*\.flac, found no"):
        module(tree).setup()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"training_subsets": ["train"]}, "training_subsets: expected one of .* found 'train'"),
        ({"heldout_subsets": ["dev"]}, "heldout_subsets: expected one of train-clean-100, .*'dev'"),
        ({"training_subsets": []}, "training_subsets: expected at least one subset, found none"),
        (
            {"heldout_subsets": ["train-clean-100"]},
            "train-clean-100 is one of training_subsets too",
        ),
    ],
)
def test_bad_subsets_are_refused(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        module(tmp_path, **arguments)
