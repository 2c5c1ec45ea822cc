"""Lines of JSON are refused alike, whoever reads them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.images.labels import read_labels
from datamodules.text.ranking import RankingFilesDataModule
from kdlight.errors import InputError
from kdlight.selection.files import SCORES, read_scores
from kdlight.selection.ledger import Ledger
from kdlight.storage.codes import read_codes
from kdlight.storage.documents import read_documents
from kdlight.storage.files import read_json
from kdlight.storage.json_text import parse_json
from kdlight.storage.segments import read_segments
from kdlight.storage.tokenizers import HashedWordsTokenizer

DEEP = "[" * 100_000 + "]" * 100_000
LONG = '{"text": ' + "9" * 5000 + "}"
HALF = '{"text": "a \\ud800"}'
TWICE = '{"text": "a", "text": "b"}'
READERS: dict[str, Callable[[Path], object]] = {
    "texts": read_documents,
    "manifest": read_segments,
    "codes": read_codes,
    "labels": lambda path: read_labels(path, "file_name", "label"),
    "scores": read_scores,
    "ledger": Ledger,
    "ranking": lambda path: RankingFilesDataModule(str(path), HashedWordsTokenizer(9)).parts,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (DEEP, "expected JSON"),
        (LONG, "expected JSON"),
        (TWICE, "given twice"),
        (HALF, r'found "\\ud800", which is half a character'),
    ],
)
def test_a_line_is_refused(reader: str, line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    first = json.dumps({"format": SCORES}) + "\n" if reader == "scores" else ""
    path.write_text(f"{first}{line}\n")
    with pytest.raises(InputError, match=r"rows\.jsonl: line [12]: .*" + said) as found:
        READERS[reader](path)
    assert len(str(found.value)) < 300


def test_columns_that_nobody_reads_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "price": NaN, "most": Infinity}\n')
    assert [each.text for each in read_documents(path)] == ["a"]


def test_a_file_of_json_holds_what_json_knows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, said in (("[NaN]", "found NaN"), ("[-Infinity]", "Infinity"), (DEEP, "JSON")):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_json(path)
    assert parse_json("[Infinity]", infinite=True) == [float("inf")]


GOOD = {"tokens": 2.0, "teacher_nll": 1.0}
FACTS = {
    "format": SCORES,
    "data": "a.txt",
    "kind": "rows",
    "digest": "x",
    "models": {},
    "count": 2,
}


@pytest.mark.parametrize(
    ("facts", "row", "said"),
    [
        ({"digest": None}, {}, "line 1: digest: expected"),
        ({"models": []}, {}, "line 1: models: expected"),
        ({"count": 3}, {}, "expected 3 rows, found 2"),
        ({}, {"teacher_nll": float("nan")}, "line 3: teacher_nll: expected a number, found nan"),
        ({}, {"teacher_nll": True}, "line 3: teacher_nll: expected a number, found True"),
        ({}, {"tokens": -1}, "line 3: tokens: expected a whole number of at least 0, found -1"),
        (
            {},
            {"more": 1.0},
            "line 3: expected tokens and what line 2 has, found tokens, teacher_nll, more",
        ),
    ],
)
def test_scores_that_nobody_wrote(facts: dict, row: dict, said: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    rows = [FACTS | facts, GOOD, GOOD | row]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    with pytest.raises(InputError, match=said):
        read_scores(path)


def test_whole_characters_in_two_halves_are_text():
    assert parse_json('"\\ud83d\\ude00"') == parse_json(b'"\\uD83D\\uDE00"') == "\U0001f600"
