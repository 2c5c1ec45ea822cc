import torch

from datamodules.text.mappings import MappingsDataModule
from datamodules.text.sorting import SortingDataModule


def test_answers_are_the_question_in_order():
    data = SortingDataModule(5, 4, num_samples=20, num_heldout=10)
    training, held = data.parts
    for part, count in ((training, 20), (held, 10)):
        assert part["tokens"].shape == part["mask"].shape == (count, data.length)
        question, answer = part["tokens"].chunk(2, dim=1)
        assert torch.equal(answer, question.sort(dim=1).values)
        assert part["mask"].sum(dim=1).tolist() == [4] * count
    assert not torch.equal(training["tokens"][:10], held["tokens"])


def test_images_are_those_that_the_demonstrations_show():
    data = MappingsDataModule(4, 3, num_samples=30, num_heldout=10)
    for row, mask in zip(*(data.parts[0][key].tolist() for key in ("tokens", "mask")), strict=True):
        shown = dict(zip(row[0:8:2], row[1:8:2], strict=True))
        assert sorted(shown) == [0, 1, 2, 3]
        assert sorted(shown.values()) == [4, 5, 6, 7]
        assert [shown[symbol] for symbol in row[8::2]] == row[9::2]
        assert mask == [False] * 8 + [False, True] * 3


def test_hidden_demonstrations_tell_nothing_of_the_answers():
    seen, hidden = (MappingsDataModule(6, 6, shown, num_samples=4000) for shown in (True, False))
    rows, others = seen.parts[0]["tokens"], hidden.parts[0]["tokens"]
    assert torch.equal(rows[:, 12:], others[:, 12:]), "the same questions and answers"
    same = torch.eq(rows[:, 1:12:2], others[:, 1:12:2]).double().mean()
    assert abs(float(same) - 1 / 6) < 0.02
