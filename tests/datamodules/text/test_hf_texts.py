"""Texts of data sets of the Hugging Face library."""

from pathlib import Path
from typing import Any

import pytest

from datamodules.text.hf_texts import HFTextsDataModule
from kdlight.errors import InputError
from kdlight.storage.tokenizers import ByteTokenizer

datasets = pytest.importorskip("datasets")


def of(path: Path, **options: Any) -> HFTextsDataModule:
    return HFTextsDataModule(str(path), ByteTokenizer(), length=8, **options)


def saved(folder: Path, column: str = "text") -> Path:
    parts = {
        "train": datasets.Dataset.from_dict({column: ["first text", "", "second text"]}),
        "validation": datasets.Dataset.from_dict({column: ["held out"]}),
    }
    datasets.DatasetDict(parts).save_to_disk(folder / "saved")
    return folder / "saved"


def test_splits_of_a_saved_data_set(tmp_path: Path) -> None:
    data = of(saved(tmp_path), heldout_split="validation")
    assert [each.text for each in data.documents()] == ["first text", "second text"]
    training, heldout = data.read()
    assert bytes(training["tokens"].flatten()[:10].tolist()) == b"first text"
    assert bytes(heldout["tokens"].flatten().tolist()) == b"held out"


def test_files_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    data = of(tmp_path / "texts")
    assert [each.text for each in data.documents()] == ["one", "two"]


def test_bad_input_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, column="words")
    with pytest.raises(InputError, match="expected a column 'text', found words"):
        of(folder).documents()
    with pytest.raises(InputError, match="cannot load split 'dev'"):
        of(folder, field="words", split="dev").documents()
    numbers = datasets.Dataset.from_dict({"text": [1, 2]})
    numbers.save_to_disk(tmp_path / "numbers")
    with pytest.raises(InputError, match="row 0 of 'train': text: expected a text, found int"):
        of(tmp_path / "numbers").documents()
