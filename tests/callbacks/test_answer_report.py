import json

import torch

from kdlight.callbacks.language.answer_report import AnswerReport, answered
from tests.exactness.harness import fit
from tests.exactness.structure_cases import encoder_distillation, questions


class Counting(torch.nn.Module):
    """Sure that a token is the one before it plus one."""

    vocabulary, length = 5, 4

    def following(self, tokens):
        return torch.nn.functional.one_hot((tokens[:, -1] + 1) % 5, 5).float()


def test_asked_places_are_written_one_by_one_and_the_others_are_given():
    tokens = torch.tensor([[0, 9, 3, 9], [2, 0, 9, 9]])
    asked = torch.tensor([[False, True, False, True], [False, False, True, True]])
    assert answered(Counting(), tokens, asked).tolist() == [[0, 1, 3, 4], [2, 0, 1, 2]]


def test_a_run_ends_in_rows_of_answers(tmp_path):
    fit(
        encoder_distillation(),
        questions(),
        [AnswerReport(num_samples=8, preview=4)],
        logger=True,
        default_root_dir=tmp_path,
    )
    (summary,) = tmp_path.rglob("summary.json")
    rows = json.loads(summary.read_text())
    assert [row["model"] for row in rows] == ["teacher", "student"]
    for row in rows:
        assert 0 <= row["exact_match"] <= row["answer_accuracy"] <= 1
        assert row["perplexity"] > 1
