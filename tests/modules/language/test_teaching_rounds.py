"""Rounds that are killed and go on, and what they cost."""

import json
from pathlib import Path

import pytest

from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.discrete.entities import EntityLanguage
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.networks.text.tagger import TokenTagger
from kdlight.selection.critics import AtLeast
from kdlight.selection.labelling import Labelling, LeastSure
from kdlight.selection.ledger import Ledger
from kdlight.teachers.answering import EntityOracle
from kdlight.training.optim import Optimization
from modules.language.teaching_rounds import TeachingRounds
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.exactness.language_cases import entities, teaching_rounds


def test_a_run_that_goes_on_asks_nothing_twice(tmp_path: Path):
    ledger = tmp_path / "ledger.jsonl"
    saves = SaveAt(tmp_path, (4, 10))
    unbroken = fit(teaching_rounds(ledger=str(ledger)), entities(), [saves])
    assert unbroken.ledger.calls == 18
    lines = ledger.read_text().splitlines()
    # Killed in the second round, with a checkpoint of the first and half of its answers.
    ledger.write_text("\n".join(lines[:13]) + "\n" + lines[13][:9])
    resumed = teaching_rounds(ledger=str(ledger))
    fit(resumed, entities(), ckpt_path=tmp_path / "4.ckpt")
    assert resumed.ledger.calls == 5
    assert not list(differing(state(resumed), state(unbroken)))
    assert resumed.asked == unbroken.asked
    assert len({index for those in resumed.asked for index in those}) == 18


def test_a_budget_ends_the_asking_and_not_the_training(tmp_path: Path):
    module = teaching_rounds(budget=12)
    fit(module, entities())
    assert [len(each) for each in module.asked] == [9, 3]
    assert module.ledger.left == 0


def test_every_round_is_a_file(tmp_path: Path):
    module = teaching_rounds()
    fit(module, entities(), logger=True, default_root_dir=tmp_path)
    files = sorted(tmp_path.rglob("round_*.jsonl"))
    assert [path.name for path in files] == ["round_0.jsonl", "round_1.jsonl"]
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(rows) == 9
    refused = sum(module.refused.values())
    files = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert sum(row["refused_by"] == "InText" for row in files) == refused


def test_what_does_not_fit_is_named():
    language, optimizer = EntityLanguage(5, 5), Optimization(lr=1e-3)
    student, teacher = TokenTagger(29, 5, width=8, depth=1, heads=2), EntityOracle(language)
    with pytest.raises(InputError, match="student: expected 3 tags for the types person, found 5"):
        TeachingRounds(teacher, student, Labelling(["person"]), optimizer)
    labelling = Labelling(["person", "place"], [AtLeast(99)])
    with pytest.raises(InputError, match="asks, rounds, round_iterations, budget: expected"):
        TeachingRounds(teacher, student, labelling, optimizer, rounds=0)
    module = TeachingRounds(teacher, student, labelling, optimizer, 4, 1, 2, LeastSure())
    with pytest.raises(InputError, match="critics: expected that some of 4 answers pass"):
        fit(module, entities())
    other = OracleLanguageDataModule(HMMLanguage(3, 5, 6), 40, 10, 12)
    with pytest.raises(InputError, match="data: expected texts that a teacher may be asked about"):
        fit(teaching_rounds(), other)
    assert Ledger(None).left is None
