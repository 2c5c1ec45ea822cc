"""Labels from a table, and tables that cannot be right."""

import json

import pytest
import torch

from datamodules.images.image_folder import ImageFolderDataModule
from datamodules.images.labels import read_labels, sorted_classes
from kdlight.errors import InputError
from tests.datamodules.images.test_image_folder import picture


@pytest.fixture
def folder(tmp_path):
    for count in range(12):
        picture(tmp_path / "pictures" / "abc"[count % 3] / f"{count}.png", count)
    return tmp_path / "pictures"


def table(path, rows):
    """A table in the format of its suffix."""
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n")
    else:
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def rows_of(folder, column="label", labels=("10", "9")):
    """Half of the pictures under one label, half under another."""
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.png"))]
    return [
        {"file_name": name, "size": 3, column: labels[index % 2]}
        for index, name in enumerate(names)
    ]


def module(folder, path, **arguments):
    arguments = {"size": 8, "heldout": 0.25, "num_workers": 0, **arguments}
    return ImageFolderDataModule(str(folder), labels=str(path), **arguments)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("labels", [("10", "9"), (10, 9)])
def test_labels_of_a_table(folder, tmp_path, suffix, labels):
    rows = rows_of(folder, "kind", labels)
    data = module(folder, table(tmp_path / f"x{suffix}", rows), label_column="kind", cache=True)
    assert data.class_names == ["9", "10"]
    found = {
        tuple(image.flatten().tolist()): int(label)
        for part in ("reference", "heldout")
        for image, label in zip(data.whole(part), data.whole_labels(part), strict=True)
    }
    expected = ImageFolderDataModule(str(folder), 8, unconditional=True, cache=True, heldout=0.25)
    images = torch.cat([expected.whole(part) for part in ("reference", "heldout")])
    assert {tuple(image.flatten().tolist()) for image in images} == set(found)
    assert sorted(found.values()) == [0] * 6 + [1] * 6


def test_pictures_without_a_label_are_named(folder, tmp_path):
    data = module(folder, table(tmp_path / "x.csv", rows_of(folder)[:8]))
    with pytest.warns(UserWarning, match=r"4 pictures have no label in .*x.csv .* c/11.png"):
        data.setup()
    assert sum(len(data.whole(part)) for part in ("reference", "heldout")) == 8


def test_files_that_are_not_there_are_refused(folder, tmp_path):
    rows = [*rows_of(folder), {"file_name": "a/none.png", "size": 3, "label": "9"}]
    with pytest.raises(InputError, match=r"found 1 of 13 missing \(a/none.png\)"):
        module(folder, table(tmp_path / "x.csv", rows)).setup()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "a", "expected a .csv or .jsonl file"),
        ("x.csv", "", "expected a line for every picture, found none"),
        ("x.csv", "file;label\na;b\n", "line 2: expected columns file_name and label, found file;"),
        ("x.csv", "file_name,label\na.png,x\nb.png\n", "line 3: expected 2 columns, found 1"),
        ("x.csv", "file_name,label\na.png, \n", "line 2: expected a label, found ''"),
        ("x.csv", "file_name,label\na,x\nb,y\na,x\n", "line 4: .* found a in line 2 too"),
        ("x.jsonl", '{"file_name": "a"}\n', "line 1: expected columns file_name and label"),
        ("x.jsonl", '{"file_name": "a", "label": null}', "line 1: expected a label, found None"),
        ("x.jsonl", '{"file_name": "a", "label": "x"}\n[]\n', r"line 2: expected an object"),
        ("x.csv", "file_name,label,label\na,x,y\n", "line 1: .* found 'label' twice"),
        ("x.csv", "file_name,label\na,x\n./a,y\n", "line 3: .* found ./a in line 2 too"),
        ("x.jsonl", '{"file_name": "a", "label": true}', "line 1: expected a label, found True"),
        ("x.jsonl", "{", "line 1: expected JSON"),
        ("x.csv", b"file_name,label\na,\xff\n", "expected text in UTF-8"),
    ],
)
def test_tables_that_cannot_be_right(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        read_labels(path, "file_name", "label")
    assert "\n" not in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "x.csv", "file_name", "label")


def test_names_are_sorted_as_words_where_one_is_a_word():
    assert sorted_classes({"a": "b", "b": "10", "c": "9"}) == ["10", "9", "b"]


@pytest.mark.parametrize("label", ["1.0", "0.5", ".5", "NaN", "nan", "2.", "1.5e3"])
def test_what_a_table_writes_for_lost_labels_and_fractions_is_no_class(tmp_path, label):
    path = tmp_path / "x.csv"
    path.write_text(f"file_name,label\na.png,3\nb.png,{label}\n")
    with pytest.raises(InputError, match=f"x.csv: line 3: expected a label, found '{label}'."):
        read_labels(path, "file_name", "label")


def test_a_label_without_end_is_cut_in_the_complaint(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"file_name": "a.png", "label": ["x"] * 9000}) + "\n")
    with pytest.raises(InputError, match="expected a label, found") as refused:
        read_labels(path, "file_name", "label")
    assert len(str(refused.value)) < 300
