import json
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.images.generation import print_rows
from kdlight.callbacks.language.language_report import LanguageReport
from kdlight.errors import InputError
from tests.exactness.cases import CASES
from tests.exactness.harness import fit


def test_rows_hold_the_exact_divergence_from_the_truth_and_from_the_teacher(tmp_path):
    case = CASES["logit_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    report = LanguageReport(20, preview=10, batch_size=5)
    fit(case.make(), case.data(), [report], logger=logger)
    teacher, student = json.loads((tmp_path / "summary.json").read_text())
    assert (teacher["model"], student["model"]) == ("teacher", "student")
    assert "proxy_kl" not in teacher
    assert {"golden_kl", "proxy_kl", "acceptance", "block_efficiency"} <= student.keys()
    assert {"ece", "fitted_temperature", "perplexity", "nll"} <= student.keys()
    assert min(teacher["golden_kl"], student["golden_kl"], student["proxy_kl"]) > 0
    logged = (tmp_path / "metrics.csv").read_text().splitlines()
    assert {"val/golden_kl", "val/proxy_kl", "val/train_proxy_kl"} <= set(logged[0].split(","))


def test_a_student_that_copies_faults_is_said_once_also_after_a_stop(capsys):
    trainer = SimpleNamespace(is_global_zero=True)
    curves = [(0.2, 0.2), (0.1146, 0.1066), (0.1197, 0.1043), (0.1467, 0.103)]
    report, said = LanguageReport(), []
    for number, (golden, proxy) in enumerate(curves):
        figures = {"golden_kl": golden, "proxy_kl": proxy}
        said.append(report._judged(figures, trainer, 10 * (number + 1)))
        report, before = LanguageReport(), report
        report.load_state_dict(before.state_dict())
    assert said == [False, False, True, True]
    err = capsys.readouterr().err
    assert err.count("Teacher hacking") == 1
    assert "iteration 30" in err
    assert "risen from 0.1146 to 0.1197" in err


def test_a_masked_model_has_no_next_token():
    case = CASES["masked_diffusion"]
    with pytest.raises(InputError, match="models of next tokens, found a MaskedDenoiser"):
        fit(case.make(), case.data(), [LanguageReport()])
    with pytest.raises(
        InputError, match="preview: expected a whole number of at least 0, found -1"
    ):
        LanguageReport(preview=-1)


def test_a_validation_prints_its_figures(capsys):
    print_rows([{"model": "student", "golden_kl": 0.125}])
    assert "0.125" in capsys.readouterr().out


def test_a_large_model_is_measured_without_writing(tmp_path):
    case = CASES["logit_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    fit(case.make(), case.data(), [LanguageReport(0, preview=0, heldout=10)], logger=logger)
    teacher, student = json.loads((tmp_path / "summary.json").read_text())
    assert {"perplexity", "heldout_nll", "parameters", "proxy_kl"} <= student.keys()
    assert not {"nll", "ms_per_sample", "block_efficiency"} & (student.keys() | teacher.keys())
    with pytest.raises(InputError, match="heldout: expected a number where num_samples is 0"):
        LanguageReport(0)
