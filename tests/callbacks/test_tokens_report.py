import json

import pytest
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.tokens_report import TokenReport
from kdlight.errors import InputError
from tests.exactness.cases import CASES
from tests.exactness.harness import fit


def test_rows_of_teacher_and_student_with_the_calls_that_were_made(tmp_path, capsys):
    case = CASES["dimensional_correlations"]
    logger = CSVLogger(tmp_path, name="", version="")
    fit(case.make(), case.data(), [TokenReport(8, steps=[1, 2], batch_size=5)], logger=logger)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [(row["model"], row["algorithm"], row["steps"]) for row in rows] == [
        ("teacher", "first_hitting", 6),
        ("teacher", "ancestral", 2),
        ("teacher", "ancestral", 1),
        ("student", "ancestral", 1),
        ("student", "ancestral", 2),
    ]
    assert [row["nfe"] for row in rows if row["steps"] != 2] == [6, 1, 1]
    assert all(row["nll"] > 0 and row["nll_floor"] == rows[0]["nll_floor"] for row in rows)
    assert rows[0]["speed_up"] == 1
    assert "student" in capsys.readouterr().out


def test_settings_and_methods_that_do_not_fit_are_named_before_training():
    with pytest.raises(InputError, match="num_samples: expected at least 2, found 1"):
        TokenReport(1)
    with pytest.raises(InputError, match=r"steps: expected numbers above 0, found \[0\]"):
        TokenReport(steps=[0])
    case = CASES["classifier_training"]
    with pytest.raises(
        InputError, match="expected a method that ends in token generators, found Cl"
    ):
        fit(case.make(), case.data(), [TokenReport()])
