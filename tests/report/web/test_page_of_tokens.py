"""The page of a run that writes tokens: its texts, and the order in which they came."""

import pytest
import torch

from kdlight.callbacks.language.written import walk_of, write_walks
from kdlight.discrete.samplers import TokenSample
from kdlight.report.token_samples import FILE, read_walks
from kdlight.storage.tokenizers import CharacterTokenizer

ROW = {"model": "denoiser", "steps": 3, "algorithm": "first_hitting", "nfe": 3.0}


def sample():
    tokens = torch.tensor([[0, 1, 3, 2], [1, 0, 0, 0]])
    order = torch.tensor([[0, 2, 1, 3], [0, 1, 2, 3]])
    return TokenSample(tokens, torch.tensor([3, 3]), order)


def test_pieces_are_read_back_and_odd_files_are_left_out(tmp_path):
    walk = walk_of(ROW, sample(), CharacterTokenizer("ab"), 1)
    pieces = ["a", "b", "∎", "\ufffd"]
    assert walk["rows"] == [{"pieces": pieces, "revealed_at": [0, 2, 1, 3]}]
    plain = walk_of(ROW, sample(), None, 2)
    assert plain["rows"][1]["pieces"] == ["1 ", "0 ", "0 ", "0 "]
    write_walks(tmp_path, [plain])
    assert read_walks(tmp_path) == [plain]
    for odd in ("{", '{"a": 1}', '[1, {"rows": 3}, {"rows": [{"pieces": [1]}]}]'):
        (tmp_path / FILE).write_text(odd)
        assert read_walks(tmp_path) == []
    assert read_walks(tmp_path / "gone") == []


@pytest.mark.browser
def test_the_slider_goes_back_to_the_masks(opened, page, make_run):
    folder = make_run()
    write_walks(folder, [walk_of(ROW, sample(), None, 2)])
    opened(folder)
    assert page.find(".writing h3").text == "Denoiser, first hitting, 3 steps"
    assert [text.text for text in page.every(".written")] == ["0 1 3 2 ", "1 0 0 0 "]
    page.slide(".writing input", 0)
    assert page.find(".written").text == "0 ▒▒▒▒▒▒"
    assert len(page.every(".written .mask")) == 6
    assert page.find(".writing output").text == "after call 0 of 3"
