"""Errors of a recogniser of codes in the summary of a run."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.checkpoint import AtomicCheckpointIO
from kdlight.callbacks.speech.token_recognition import TokenRecognition, repeats
from kdlight.errors import InputError
from tests.exactness.harness import SaveAt, TinyImages, fit
from tests.modules.speech.guided_cases import TinyTalk, guided


def run(folder: Path, *callbacks: Any, data: Any = None) -> None:
    logger = CSVLogger(folder, name="", version="")
    fit(guided(iterations=3), data or TinyTalk(), list(callbacks), logger=logger)


def test_the_errors_of_each_level_go_into_its_row(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps([{"model": "codec", "n_q": 1, "stoi": 0.5}]))
    data = TinyTalk()
    for utterance in data.splits.training:
        utterance.__dict__["transcript"] = "so"  # which its few frames can hold
    run(tmp_path, TokenRecognition([2, 1], 2), data=data)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["n_q"] for row in rows] == [1, 2]
    assert rows[0]["stoi"] == 0.5
    for row in rows:
        assert row["token_cer"] > 0
        assert row["token_wer"] > 0


def test_a_finished_codec_is_tested_to_the_same_errors(tmp_path: Path) -> None:
    data = TinyTalk()
    for utterance in data.splits.training:
        utterance.__dict__["transcript"] = "so"
    run(tmp_path / "fit", TokenRecognition(iterations=2), SaveAt(tmp_path, (3,)), data=data)
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[TokenRecognition(iterations=2)],
        logger=CSVLogger(tmp_path / "test", name="", version=""),
        enable_progress_bar=False,
        plugins=[AtomicCheckpointIO()],
    )
    trainer.test(guided(iterations=3), data, tmp_path / "3.ckpt", weights_only=True)
    found, expected = (
        json.loads((tmp_path / stage / "summary.json").read_text()) for stage in ("test", "fit")
    )
    assert found == expected


def test_codes_of_a_low_rate_are_repeated() -> None:
    assert [repeats(rate) for rate in (75.0, 50.0, 25.0, 12.5)] == [1, 1, 2, 4]


def test_what_cannot_be_read_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="TokenRecognition: expected data of speech, found Tiny"):
        fit(guided(), TinyImages(), [TokenRecognition()])
    with pytest.raises(InputError, match="levels: expected at most 3 of the codec, found 4"):
        run(tmp_path, TokenRecognition([1, 4]))
    for part in ("training", "heldout"):
        data = TinyTalk()
        for utterance in getattr(data.splits, part):
            utterance.__dict__["transcript"] = ""
        with pytest.raises(InputError, match="expected transcripts of"):
            run(tmp_path, TokenRecognition(), data=data)
    with pytest.raises(InputError, match="levels: expected a"):
        TokenRecognition([0])
    with pytest.raises(InputError, match="iterations: expected a whole number above 0, found 0"):
        TokenRecognition(iterations=0)
    assert not (tmp_path / "summary.json").exists()
