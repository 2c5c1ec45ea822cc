"""Rounds with feedback that are killed and go on, and which of them is kept."""

from pathlib import Path

import lightning as L
import pytest
import torch

from datamodules.text.few_labels import FewLabelsDataModule
from kdlight.errors import InputError
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.exactness.text_cases import LANGUAGE, data, feedback_rounds, few


def test_a_run_that_goes_on_asks_nothing_twice(tmp_path: Path):
    ledger = tmp_path / "ledger.jsonl"
    saves = SaveAt(tmp_path, (9,))
    unbroken = fit(feedback_rounds(ledger=str(ledger)), few(), [saves])
    assert unbroken.ledger.calls == 12
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join(lines[:8]) + "\n" + lines[8][:9])
    resumed = feedback_rounds(ledger=str(ledger))
    fit(resumed, few(), ckpt_path=tmp_path / "9.ckpt")
    assert resumed.ledger.calls == 4
    assert not list(differing(state(resumed), state(unbroken)))
    assert (resumed.asked, resumed.best_round) == (unbroken.asked, unbroken.best_round)


def test_answers_of_another_teacher_are_refused(tmp_path: Path):
    ledger = tmp_path / "ledger.jsonl"
    fit(feedback_rounds(ledger=str(ledger)), few())
    known = feedback_rounds().ledger.teacher
    assert known is not None
    ledger.write_text(ledger.read_text().replace(known, "Another"))
    with pytest.raises(InputError, match="expected answers of this teacher"):
        feedback_rounds(ledger=str(ledger))


def test_a_budget_ends_the_asking_and_not_the_training():
    module = feedback_rounds(budget=8)
    fit(module, few())
    assert [len(each) for each in module.asked] == [6, 2]
    assert len(module.lesson()["tokens"]) == 8 + 8


class Averages(L.Callback):
    """What the average was at the end of every round, and its loss on the validation texts."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, torch.Tensor]]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.iteration % pl_module.round_iterations == 0:
            loss = float(torch.nn.functional.cross_entropy(*pl_module.validated()))
            weights = pl_module.ema.module.state_dict()
            self.seen.append((loss, {name: each.clone() for name, each in weights.items()}))


def test_the_round_that_is_best_on_the_validation_texts_is_kept():
    averages, module = Averages(), feedback_rounds()
    fit(module, few(), [averages])
    losses = [loss for loss, _ in averages.seen]
    assert module.best_loss == min(losses)
    assert module.best_round == losses.index(min(losses))
    assert not list(differing(module.best.state_dict(), averages.seen[module.best_round][1]))


def test_parts_share_no_text_and_have_all_classes_equally():
    module = FewLabelsDataModule(LANGUAGE, 3, 2, 4, 1, 30)
    parts = (module.parts[0], module.parts[1], module.validation)
    assert [torch.bincount(part["label"]).tolist() for part in parts] == [
        [2] * 3,
        [10] * 3,
        [4] * 3,
    ]
    rows = module.rows_of([[1, 2], [3]])
    assert rows["tokens"][:, :2].tolist() == [[1, 2], [3, 0]]
    assert rows["mask"].sum(dim=1).tolist() == [2, 1]


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="data: expected labelled texts with others to validate"):
        fit(feedback_rounds(), data())
    other = FewLabelsDataModule(LANGUAGE, 3, 2, 4, 1, 30)
    with pytest.raises(InputError, match="data: expected the classes of the student, 2, found 3"):
        fit(feedback_rounds(), other)
