"""A set of utterances: rows, summaries, lengths, what is missing, what it was measured with."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.speech import packages
from kdlight.metrics.speech.catalogue import (
    NAMES,
    SIGNAL_METRICS,
    Pair,
    Sound,
    Utterance,
    available,
)
from kdlight.metrics.speech.evaluation import SpeechEvaluation, align, write_jsonl
from tests.metrics.speech.signals import RATE, noise, voice

OWN = ["si_sdr", "log_mel_l1", "mel_distance", "stft_distance"]


class Parrot:
    """Hears a text for each length of audio, and counts how often it listened."""

    provenance = {"package": "parrot 1", "model": "none"}

    def __init__(self, texts: dict[int, str]) -> None:
        self.texts, self.calls = texts, 0

    def transcribe(self, audio: Tensor, sample_rate: int) -> str:
        assert sample_rate == 16_000
        self.calls += 1
        return self.texts[len(audio)]


def test_rows_and_summary_of_three_utterances() -> None:
    evaluation = SpeechEvaluation(["si_sdr", "log_mel_l1"])
    clean = voice(1.0)
    error = clean.roll(1) - clean
    for name, gain in (("a", 0.1), ("b", 0.2)):
        evaluation.update(name, clean, clean + gain * error, RATE)
    evaluation.update("c", clean, torch.zeros(RATE), RATE)
    assert [row["utterance"] for row in evaluation.rows] == ["a", "b", "c"]
    found = evaluation.summary()
    si_sdr = [float(row["si_sdr"]) for row in evaluation.rows]
    assert found["si_sdr"]["mean"] == pytest.approx((si_sdr[0] + si_sdr[1]) / 2)
    assert found["si_sdr"]["median"] == pytest.approx((si_sdr[0] + si_sdr[1]) / 2)
    assert (found["si_sdr"]["count"], found["si_sdr"]["nan"]) == (2, 1)
    assert (found["log_mel_l1"]["count"], found["log_mel_l1"]["nan"]) == (3, 0)
    assert found["si_sdr"]["low"] <= found["si_sdr"]["mean"] <= found["si_sdr"]["high"]
    evaluation.reset()
    assert math.isnan(evaluation.summary()["si_sdr"]["mean"])


def test_a_side_that_is_not_finite_makes_every_figure_nan() -> None:
    evaluation = SpeechEvaluation()
    broken = voice(0.5)
    broken[3] = math.nan
    row = evaluation.update("a", voice(0.5), broken, RATE)
    assert all(math.isnan(float(row[figure])) for figure in evaluation.figures)
    assert all(found["nan"] == 1 for found in evaluation.summary().values())


@pytest.mark.parametrize(("longer", "fits"), [(79, True), (799, True), (1600, False)])
def test_nearly_equal_lengths_are_cut(longer: int, fits: bool) -> None:
    clean = voice(1.0)
    other = torch.cat([clean, torch.zeros(longer)])
    if fits:
        first, second = align(clean, other, RATE)
        assert torch.equal(first, clean)
        assert torch.equal(second, clean)
        assert align(other, clean, RATE)[0].shape == clean.shape
        row = SpeechEvaluation(["si_sdr"]).update("a", clean, other, RATE)
        assert row["longer"] == pytest.approx(longer / RATE)
    else:
        with pytest.raises(InputError, match=r"x/y: expected the 1\.000 s .* found 1\.100 s"):
            align(clean, other, RATE, "x/y")


def test_one_percent_of_a_long_utterance_passes() -> None:
    long = torch.zeros(60 * RATE)
    assert len(align(long, long[: -int(0.5 * RATE)], RATE)[0]) == 59.5 * RATE
    with pytest.raises(InputError, match="found 0"):
        align(long, long[:0], RATE)


def test_word_errors_by_utterance_and_by_corpus() -> None:
    pytest.importorskip("jiwer")
    long, short = voice(2.0), voice(1.0)
    parrot = Parrot({2 * RATE: "one red fox and ten hens", RATE: "go"})
    evaluation = SpeechEvaluation(["wer", "wer_reference"], parrot)
    evaluation.update("a", long, long, RATE, transcript="One red fox, and nine hens!")
    row = evaluation.update("b", short, short, RATE, transcript="stop")
    found = evaluation.summary()
    assert found["wer"]["mean"] == pytest.approx((1 / 6 + 1) / 2)
    assert found["wer"]["corpus"] == pytest.approx(2 / 7)
    assert found["wil"]["corpus"] == pytest.approx(1 - 25 / 49)
    # "9" for "10", and "go" for "stop".
    assert found["cer"]["corpus"] == pytest.approx((2 + 3) / (len("one red fox and 9 hens") + 4))
    assert found["wer_reference"]["corpus"] == 0.0
    assert row["hypothesis"] == "go"
    assert row["hypothesis_reference"] == "go"
    assert evaluation.provenance()["wer"]["recogniser_package"] == "parrot 1"


@pytest.mark.parametrize("longer", [-300, 300])
def test_the_recogniser_hears_whole_utterances_and_others_what_they_compare(longer: int) -> None:
    pytest.importorskip("jiwer")
    clean = voice(1.0)
    other = torch.cat([clean, clean[:300]])[: RATE + longer]
    parrot = Parrot({RATE: "stop here", RATE + longer: "stop her"})
    evaluation = SpeechEvaluation(["wer_reference", "si_sdr"], parrot)
    row = evaluation.update("a", clean, other, RATE)
    assert (row["hypothesis_reference"], row["hypothesis"]) == ("stop here", "stop her")
    assert row["wer_reference"] == 0.5
    assert row["cer_reference"] == pytest.approx(1 / 9)
    assert float(row["si_sdr"]) > 60  # of what both have


def test_an_original_is_heard_at_its_own_rate_whatever_it_is_compared_at() -> None:
    pytest.importorskip("jiwer")
    at_24 = Sound(voice(1.0, rate=24_000), 24_000)
    heard = []

    class Listener(Parrot):
        def transcribe(self, audio: Tensor, sample_rate: int) -> str:
            heard.append(audio)
            return "go"

    for rate in (8_000, 16_000):
        evaluation = SpeechEvaluation(["wer_reference"], Listener({}))
        reference = at_24.at(rate)
        evaluation.update("a", reference, reference, rate, original=at_24)
    assert torch.equal(heard[1], at_24.at(16_000))
    assert torch.equal(heard[1], heard[3])


@pytest.mark.parametrize("name", ["dnsmos", "speaker_similarity"])
def test_what_looks_at_each_side_by_itself_gets_it_whole(name: str) -> None:
    clean, longer = voice(1.0), torch.cat([voice(1.0), torch.zeros(100)])
    sides = Pair(clean, clean), Pair(clean, longer)
    sound = Sound(clean, RATE)
    utterance = Utterance("a", *sides, RATE, sound, sound)
    assert SIGNAL_METRICS[name].sides(utterance) == sides[1]
    assert SIGNAL_METRICS["stoi"].sides(utterance) == sides[0]


def test_an_original_is_heard_once_however_many_systems() -> None:
    pytest.importorskip("jiwer")
    parrot = Parrot({RATE: "go"})
    evaluation = SpeechEvaluation(["wer_reference"], parrot)
    for _ in range(3):
        evaluation.update("a", voice(1.0), voice(1.0), RATE)
        evaluation.reset()
    assert parrot.calls == 1 + 3


def test_an_utterance_without_transcript_has_no_wer() -> None:
    pytest.importorskip("jiwer")
    evaluation = SpeechEvaluation(["wer"], Parrot({RATE: "go"}))
    row = evaluation.update("a", voice(1.0), voice(1.0), RATE)
    assert math.isnan(float(row["wer"]))
    found = evaluation.summary()["wer"]
    assert math.isnan(found["corpus"])
    assert found["nan"] == 1


def test_what_is_not_installed_is_left_out_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    assert available(transcripts=True) == OWN
    assert SpeechEvaluation().figures == OWN
    for name in set(NAMES) - set(OWN):
        with pytest.raises(InputError, match=f"{name} needs the package .* pip install"):
            SpeechEvaluation([name])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="pesq_wb.*found 'peks'"):
        SpeechEvaluation(["peks"])


def test_wer_is_a_default_only_with_transcripts_and_ears() -> None:
    pytest.importorskip("jiwer")
    assert "wer" in available(transcripts=True, recogniser=True)
    assert "wer" not in available(transcripts=False, recogniser=True)
    assert "wer_reference" in available(transcripts=False, recogniser=True)


def test_provenance_names_versions_and_mappings() -> None:
    pytest.importorskip("pesq")
    found = SpeechEvaluation(["pesq_wb", "log_mel_l1"]).provenance()
    assert found["pesq_wb"]["package"] == f"pesq {packages.version('pesq')}"
    assert "P.862.2" in found["pesq_wb"]["about"]
    assert found["log_mel_l1"]["package"] == "kdlight"


def test_rows_are_json_lines(tmp_path: Path) -> None:
    evaluation = SpeechEvaluation(["si_sdr"])
    evaluation.update("é", voice(1.0), voice(1.0) + noise(RATE, 0.1), RATE)
    evaluation.update("b", voice(1.0), torch.zeros(RATE), RATE)
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, evaluation.rows)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["utterance"] == "é"
    assert first["si_sdr"] == evaluation.rows[0]["si_sdr"]
    assert second["si_sdr"] is None
