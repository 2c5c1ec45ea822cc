"""What a teacher is asked to write, and a teacher that writes it."""

import pytest
import torch

from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.selection.feedback import Evenly, Feedback, Wish, apportioned, hard_negatives
from kdlight.selection.ledger import Ledger
from kdlight.teachers.class_oracle import ClassOracle

# Right; wrong and sure; right; wrong and as sure; wrong and less sure.
LOGITS = torch.tensor([[5.0, 0, 0], [0, 4, 0], [0, 0, 2], [4, 0, 0], [0, 1, 0]])
LABEL = torch.tensor([0, 0, 2, 1, 2])
LANGUAGE = HMMLanguage(states=3, vocabulary=5, length=6, emission=0.6)


def test_the_surest_mistakes_come_first_and_equal_ones_in_order():
    assert hard_negatives(LOGITS, LABEL).tolist() == [1, 3, 4]
    assert hard_negatives(LOGITS[:1], LABEL[:1]).tolist() == []


def test_whole_numbers_in_proportion():
    assert apportioned(torch.tensor([1.0, 1, 2]), 8) == [2, 2, 4]
    assert apportioned(torch.tensor([1.0, 1, 1]), 4) == [2, 1, 1]
    assert sum(apportioned(torch.rand(7), 1001)) == 1001
    assert apportioned(torch.ones(3), 0) == [0, 0, 0]


def test_wishes_by_hand():
    found = Feedback(0.5)(LOGITS, LABEL, 8)
    # (0 for 1), (1 for 0), (2 for 1), and again the first; then by (missed + 1) / (seen + 2).
    assert found[:4] == [Wish(0, 1), Wish(1, 0), Wish(2, 1), Wish(0, 1)]
    assert found[4:] == [Wish(0), Wish(1), Wish(1), Wish(2)]
    assert len(Feedback(1.0)(LOGITS, LABEL, 5)) == 5
    # Nothing is wrong: every class as often.
    assert Feedback(0.5)(LOGITS[:1], LABEL[:1], 5)[0] == Wish(0)
    assert [wish.label for wish in Evenly()(LOGITS, LABEL, 4)] == [0, 1, 2, 0]


def test_texts_that_are_hard_to_tell_apart():
    teacher = ClassOracle(LANGUAGE, 3, 6, candidates=8)

    def gap(like: int | None) -> float:
        asked = [{"label": 0, "instead_of": like, "number": each} for each in range(30)]
        texts = torch.tensor([teacher.answer(request) for request in asked])
        assert texts.tolist() == [teacher.answer(request) for request in asked]
        own, other = (teacher.languages[each].log_prob(texts).mean() for each in (0, 1))
        return float(own - other)

    assert gap(1) < gap(None) - 1
    assert len(set(map(len, (_short(each) for each in range(40))))) == 6
    with pytest.raises(InputError, match="shortest, classes: expected 1 to 6 and at least 2"):
        ClassOracle(LANGUAGE, 3, 7)


def _short(number: int) -> list[int]:
    teacher = ClassOracle(LANGUAGE, 2, 1, wrong=1.0)
    return teacher.answer({"label": 1, "instead_of": None, "number": number})


def test_the_first_questions_are_answered_as_far_as_the_budget_goes():
    ledger = Ledger(None, budget=2)
    asked = [{"number": number} for number in (0, 1, 0, 2, 1)]
    assert ledger.ask_all(asked, lambda request: request["number"]) == [0, 1, 0]
    assert ledger.left == 0
