"""The report of a synthesiser: its rows, its floors, and what is kept to listen to."""

import json

import pytest
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.speech.synthesis import SynthesisReport
from kdlight.errors import InputError
from kdlight.report.audio import embedded, load_utterances
from tests.exactness.harness import TinyImages, fit
from tests.modules.speech.synthesis_cases import prodiff, short_sentences


def test_rows_of_all_walks_and_players(tmp_path):
    report = SynthesisReport(sentences=3, enrolment=1, listen=1)
    logger = CSVLogger(tmp_path)
    fit(prodiff(), short_sentences(), [report], logger=logger)
    rows = json.loads((tmp_path / "lightning_logs/version_0/summary.json").read_text())
    walks = [(row["model"], row["steps"], row["nfe"]) for row in rows]
    teacher = [("teacher", 4, 4), ("teacher", 2, 2), ("teacher", 1, 1)]
    assert walks == [*teacher, ("student", 2, 2), ("student", 1, 1)]
    for row in rows:
        # Too few patches of 8 by 8 for figures of them.
        assert {f"{name}_floor" for name in ("mel_patches", "modulation", "mel_l1")} <= row.keys()
        assert 0 <= row["phones_heard"] <= row["phones_heard_floor"] <= 1
        assert row["times_real_time"] > 0
        assert row["duration_error"] == rows[0]["duration_error"], "one front end for all"
    notes = []
    (said,) = load_utterances(tmp_path / "lightning_logs/version_0/samples", notes)
    assert not notes
    labels = [version["label"] for version in embedded([said], 10**8)[0]["versions"]]
    assert labels[0] == "exact synthesis"
    assert labels[1:] == [f"{name}, {n} step{'s' * (n > 1)}" for name, n, _ in walks]


def test_data_without_sentences_are_refused():
    with pytest.raises(InputError, match="SynthesisReport: expected a held-out speaker with more"):
        fit(prodiff(), TinyImages(), [SynthesisReport()])
    with pytest.raises(InputError, match="SynthesisReport: expected two sentences or more"):
        SynthesisReport(sentences=1)
