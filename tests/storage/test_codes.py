"""Codes of other programs: every form that is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.errors import InputError
from kdlight.storage.codes import checked, read_codes

CODES = torch.arange(12).reshape(3, 4)


def test_every_form_holds_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CODES.numpy().astype("uint16"))
    np.savez(tmp_path / "a.npz", codes=CODES.numpy().astype("int32"), other=np.zeros(3))
    torch.save(CODES[None], tmp_path / "a.pt")
    torch.save({"codes": CODES, "text": "hello"}, tmp_path / "b.pt")
    for name in ("a.npy", "a.npz", "a.pt", "b.pt"):
        (found,) = read_codes(tmp_path / name)
        assert (found.name, found.place) == (name[0], str(tmp_path / name))
        assert torch.equal(checked(found.codes, 3, 12, found.place), CODES)
    lines = [CODES.tolist(), {"id": "anna/1", "codes": CODES[:2].tolist()}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n")
    first, second = read_codes(tmp_path / "c.jsonl")
    assert (first.name, second.name) == ("c/1", "c/anna/1")
    assert torch.equal(checked(second.codes, 3, 12, second.place), CODES[:2])
    assert second.place.endswith("c.jsonl: line 2")
    assert checked(CODES[0], 1, 12, "x").shape == (1, 4)


BAD_FILES = {
    "objects.npy": np.array([{}, None]),
    "objects.pt": Path("x"),
    "words.pt": {"tokens": CODES},
    "words.npz": {"tokens": CODES.numpy()},
    "text.npy": b"no codes",
    "json.jsonl": "[[1, 2]]\n[[1,",
    "ragged.jsonl": "[[1, 2], [3]]",
    "missing.jsonl": '{"id": "a"}',
    "empty.jsonl": "\n",
    "above.jsonl": '{"id": "../a", "codes": [[1]]}',
    "twice.jsonl": '{"id": "a", "codes": [[1]]}\n{"id": "a", "codes": [[1]]}',
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_of_something_else_is_one_sentence(name: str, tmp_path: Path) -> None:
    path, contents = tmp_path / name, BAD_FILES[name]
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif isinstance(contents, str):
        path.write_text(contents)
    elif path.suffix == ".pt":
        torch.save(contents, path)
    elif isinstance(contents, dict):
        np.savez(path, **contents)
    else:
        np.save(path, contents)
    with pytest.raises(InputError, match=name) as found:
        read_codes(path)
    assert len(str(found.value).splitlines()) == 1


BAD_CODES: list[tuple[Any, str]] = [
    (torch.zeros(3, 4), "expected whole numbers"),
    (torch.zeros(4, 4).long(), "of 1 to 3 levels, found torch.int64 (4, 4)."),
    (torch.zeros(50, 2).long(), "found torch.int64 (50, 2), as if frames came first."),
    (torch.zeros(2, 3, 4).long(), "found torch.int64 (2, 3, 4)."),
    (torch.zeros(4).long(), "found torch.int64 (4,)."),
    (torch.zeros(3, 0).long(), "found torch.int64 (3, 0)."),
    (CODES, "expected numbers from 0 to 10, found 11 at level 3, frame 3."),
    (CODES - 5, "expected numbers from 0 to 10, found -5 at level 1, frame 0."),
]


def test_codes_of_no_codec_are_one_sentence() -> None:
    for codes, sentence in BAD_CODES:
        with pytest.raises(InputError) as found:
            checked(codes, 3, 11, "here")
        assert str(found.value).startswith("here: ")
        assert sentence in str(found.value)
