import json

import pytest
import torch

from datamodules.text.python_topics import PythonTopicsDataModule
from datamodules.text.text_files import TextFilesDataModule
from kdlight.errors import InputError
from kdlight.storage.documents import Document, read_documents
from kdlight.storage.tokenizers import ByteTokenizer, CharacterTokenizer


@pytest.fixture
def letters(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abcdefghij":
        (folder / f"{name}.txt").write_text(name * 5)
    return folder


def module(path, **settings):
    return TextFilesDataModule(str(path), CharacterTokenizer("abcdefghij"), **settings)


def test_packed_rows_hold_every_text_and_its_end(letters):
    data = module(letters, length=3, heldout=0.2)
    training, heldout = (part["tokens"] for part in data.parts)
    assert training.shape == (16, 3)  # 8 texts of 6 tokens
    assert heldout.shape == (4, 3)
    seen = set(training.flatten().tolist())
    assert not seen & (set(heldout.flatten().tolist()) - {11})
    assert (training == 11).sum() == 8
    batch = next(iter(data.train_dataloader()))
    assert batch["tokens"].dtype == torch.int64
    assert batch["mask"].all()
    assert batch["mask"].shape == batch["tokens"].shape
    assert (batch["lengths"] == 3).all()


def test_padded_rows_begin_with_a_text_and_score_its_end(letters):
    (letters / "a.txt").write_text("a" * 10)
    data = module(letters, length=8, layout="padded", heldout_path=str(letters))
    part = data.parts[1]
    assert part["tokens"][:3].tolist() == [[0] * 8, [0, 0] + [11] * 6, [1] * 5 + [11] * 3]
    assert part["lengths"].tolist() == [8, 2] + [5] * 9
    assert part["mask"].sum(dim=1).tolist() == [8, 3] + [6] * 9
    learnt = module(letters, length=8, layout="padded", scored_padding=True)
    assert learnt.parts[0]["mask"].all()


def test_a_single_text_gives_its_end_and_the_split_is_no_matter_of_the_seed(letters):
    single = letters / "a.txt"
    single.write_text("abcdefghij" * 10)
    data = module(single, length=5)
    assert [len(part["tokens"]) for part in data.parts] == [18, 2]  # 91 and 11 tokens
    first, second = (module(letters, length=3, seed=seed).parts for seed in (0, 1))
    assert torch.equal(first[1]["tokens"], second[1]["tokens"])


def test_documents_of_lines_json_lines_tables_and_manifests(tmp_path):
    plain = tmp_path / "lines.txt"
    plain.write_text("one\n\ntwo\n")
    assert [each.text for each in read_documents(plain, lines=True)] == ["one", "two"]
    assert read_documents(plain) == [Document("one\n\ntwo\n", str(plain))]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"body": "x\u2028y"}) + "\n\n" + json.dumps({"body": "z"}) + "\n")
    found = read_documents(rows, "body")
    assert found == [Document("x\u2028y", f"{rows}: line 1"), Document("z", f"{rows}: line 3")]
    table = tmp_path / "list.csv"
    table.write_text("file,who\nlines.txt,me\n")
    assert read_documents(table)[0].text == "one\n\ntwo\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": 3}', "line 1: text: expected text, found a whole number"),
        ('{"other": "x"}', "line 1: expected a 'text' or a 'file'"),
        ("[1]", "line 1: expected an object with a 'text'"),
        ("{", "line 1: expected JSON"),
        ('{"file": "gone.txt"}', "gone.txt: no such file"),
        ("", "expected text, found none"),
    ],
)
def test_rows_that_are_no_text_are_named(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_documents(path)


def test_settings_that_do_not_fit_are_named(letters, tmp_path):
    with pytest.raises(InputError, match=r"the tokens of the training text \(54\), found 100"):
        module(letters, length=100).setup()
    with pytest.raises(InputError, match="heldout: expected a fraction between 0 and 1, found 1"):
        module(letters, length=3, heldout=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="expected files that end in .txt"):
        read_documents(empty)


def test_python_s_topics_are_there_and_split_by_topic():
    data = PythonTopicsDataModule(ByteTokenizer(), length=256)
    training, heldout = (len(part["tokens"]) for part in data.parts)
    assert 1000 < training < 3000
    assert 0.02 < heldout / training < 0.3
    figures = data.judges()[0]
    figures.update(data.parts[1]["tokens"].long())
    found = figures.compute()
    assert float(found["bigram_tv"]) == 0
    assert float(found["entropy"]) == pytest.approx(float(found["entropy_floor"]))
    assert float(found["distinct_2"]) == pytest.approx(float(found["distinct_2_floor"]))


def test_what_the_vocabulary_lacks_is_said_in_a_line(letters):
    (letters / "a.txt").write_text("a?b!?")
    with pytest.warns(UserWarning, match="3 of 50 .* stand for 2 that .* know: '\\?', '!'") as said:
        assert module(letters, length=3, heldout_path=str(letters)).parts
    assert [str(each.message).partition(":")[0] for each in said] == [
        "training text",
        "held-out text",
    ]
