import json

import pytest
from lightning.pytorch.loggers import CSVLogger

from datamodules.text.text_files import TextFilesDataModule
from kdlight.callbacks.language.tokens_report import TokenReport
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.tokenizers import CharacterTokenizer
from kdlight.teachers.checkpoint import load_models
from kdlight.teachers.tokens import token_teacher
from kdlight.training.optim import Optimization
from modules.language.discrete.masked_diffusion_training import MaskedDiffusionTraining
from tests.exactness.cases import CASES
from tests.exactness.harness import fit


def masked_diffusion(vocabulary, length):
    network = TokenTransformer(vocabulary, width=8, depth=1, heads=2)
    denoiser = MaskedDenoiser(network, vocabulary, length)
    return MaskedDiffusionTraining(denoiser, Optimization(), iterations=3)


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


@pytest.mark.parametrize("method", ["distilled_decoding", "energy_diffusion"])
def test_a_model_without_a_likelihood_has_none_in_its_row(method, tmp_path):
    case = CASES[method]
    logger = CSVLogger(tmp_path, name="", version="")
    fit(case.make(), case.data(), [TokenReport(8, steps=[1], batch_size=8)], logger=logger)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert all(("heldout_nll" in row) == (row["model"] == "teacher") for row in rows)
    student = [(row["steps"], row["nfe"]) for row in rows if row["model"] == "student"]
    expected = {"distilled_decoding": [(1, 1), (2, 2)], "energy_diffusion": [(3, 25), (1, 9)]}
    assert student[0][0] == expected[method][0][0]
    assert student[1] == expected[method][1]


def test_settings_and_methods_that_do_not_fit_are_named_before_training():
    with pytest.raises(
        InputError, match="num_samples: expected a whole number of at least 2, found 1"
    ):
        TokenReport(1)
    with pytest.raises(InputError, match="steps: expected a whole number above 0, found 0"):
        TokenReport(steps=[0])
    case = CASES["classifier_training"]
    with pytest.raises(
        InputError, match="expected a method that ends in token generators, found Cl"
    ):
        fit(case.make(), case.data(), [TokenReport()])


def test_a_run_on_text_ends_in_a_model_that_knows_its_tokenizer(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("abcab bca " * 40)
    module = masked_diffusion(vocabulary=6, length=8)
    data = TextFilesDataModule(str(words), CharacterTokenizer("abc "), 8, batch_size=4)
    logger = CSVLogger(tmp_path, name="", version="")
    fit(module, data, [TokenReport(4, steps=[2], batch_size=3)], logger=logger)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert rows[0]["heldout_nll"] > 0
    assert rows[0]["entropy_floor"] > rows[0]["entropy"] - 5
    walks = json.loads((tmp_path / "samples" / "tokens.json").read_text())
    assert [walk["steps"] for walk in walks] == [8, 2]
    assert len(walks[0]["rows"]) == 3
    assert sorted(walks[0]["rows"][0]["revealed_at"]) == list(range(1, 9))
    assert set("".join(walks[0]["rows"][0]["pieces"])) <= set("abc \ufffd∎")
    module.trainer.save_checkpoint(tmp_path / "last.ckpt")
    ((name, model),) = load_models(tmp_path / "last.ckpt")
    assert name == "denoiser"
    assert isinstance(model, TextGenerator)
    assert model.start(["ab", 2, "c"]).tolist() == [0, 1, 6, 6, 2, 6, 6, 6]
    assert token_teacher(str(tmp_path / "last.ckpt")).vocabulary == 6


def test_data_of_another_vocabulary_are_refused_before_training(tmp_path):
    (tmp_path / "a.txt").write_text("abc " * 40)
    data = TextFilesDataModule(str(tmp_path / "a.txt"), CharacterTokenizer("abc "), 8)
    with pytest.raises(InputError, match="the vocabulary of the denoiser, 5, found 6"):
        fit(masked_diffusion(vocabulary=5, length=8), data, [])
