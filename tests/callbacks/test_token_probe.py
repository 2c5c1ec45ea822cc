"""The probe at the end of a run: rows joined with the summary, conversions to listen to."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.speech.token_probe import TokenProbe, converted, level_rows, merged
from kdlight.errors import InputError
from kdlight.report.audio import load_utterances
from kdlight.storage.audio import read_audio
from tests.exactness.harness import TinyImages, fit
from tests.guidance.tiny_guidance import HOP, RATE, Loudness
from tests.modules.speech.guided_cases import TinyTalk, guided, tiny_codec


def talk() -> TinyTalk:
    data = TinyTalk()
    data.heldout = ["t2", "t3", "t4"]
    return data


def run(folder: Path, probe: TokenProbe, **settings: Any) -> Path:
    logger = CSVLogger(folder, name="", version="")
    fit(guided(iterations=3), talk(), [probe], logger=logger, **settings)
    return folder


def test_every_level_gets_its_row_and_old_rows_are_kept(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(
        json.dumps([{"model": "codec", "n_q": 1, "stoi": 0.5}, {"model": "codec", "n_q": 2}])
    )
    probe = TokenProbe(folds=3, teacher=Loudness(), clusters=4, seconds=0.1)
    run(tmp_path, probe)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["n_q"] for row in rows] == [1, 2, 3]
    assert rows[0]["stoi"] == 0.5
    for row in rows:
        assert -1 < row["phone_information"] <= 1
        assert 0 <= row["phone_accuracy"] <= 1
        assert 0 <= row["speaker_accuracy"] <= 1
        assert -1 < row["teacher_unit_information"] <= 1
        assert row["probed_frames"] > 0
    notes: list[str] = []
    shown = load_utterances(tmp_path / "samples", notes)
    assert not notes
    assert len(shown) == 2
    for utterance in shown:
        assert " in the voice of " in utterance.name
        assert [version.n_q for version in utterance.versions] == [None, 3]
        assert read_audio(utterance.versions[1].audio).shape[-1] <= 0.1 * RATE


def test_a_conversion_keeps_level_one_and_takes_the_rest() -> None:
    codec = tiny_codec()
    source, reference = torch.randn(2, 1, 20 * HOP, generator=torch.Generator().manual_seed(0))
    codec(torch.stack([source, reference]))
    codec.eval()
    said, voice = codec.encode(source[None]), codec.encode(reference[None])
    expected = codec.decode(torch.cat([said[:, :1], voice[:, 1:]], dim=1))[0]
    assert torch.equal(converted(codec, source, reference), expected)
    assert torch.equal(converted(codec, source, source), codec.decode(said)[0])
    # A shorter reference is repeated.
    assert converted(codec, source, reference[:, : 7 * HOP]).shape == source.shape


def test_a_figure_that_cannot_be_had_is_null() -> None:
    figures = {"phone_accuracy": torch.tensor([0.5, torch.nan, 1.0]), "frames": torch.tensor(7.0)}
    rows = level_rows("codec", tiny_codec(), figures)
    assert [row["phone_accuracy"] for row in rows] == [0.5, None, 1.0]
    assert [row["probed_frames"] for row in rows] == [7.0] * 3
    assert [row["n_q"] for row in merged(rows[1:], rows[:1])] == [1, 2, 3]


def test_what_cannot_be_probed_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.heldout: expected at least 5 speakers"):
        run(tmp_path, TokenProbe())
    with pytest.raises(InputError, match="TokenProbe: expected data of speech, found TinyImages"):
        fit(guided(), TinyImages(), [TokenProbe()])
    data = talk()
    for utterance in data.splits.heldout:
        utterance.__dict__["phones"] = None
    with pytest.raises(InputError, match="phones: expected data that know them, found none"):
        fit(guided(), data, [TokenProbe("data", folds=3)])
    for utterance in data.splits.heldout:
        utterance.__dict__["transcript"] = ""
    with pytest.raises(InputError, match="phones: expected transcripts to align, found none"):
        fit(guided(), data, [TokenProbe("aligned", folds=3)])
    for name, value in (("folds", 2), ("clusters", 1), ("utterances", 0), ("conversions", -1)):
        with pytest.raises(InputError, match=f"{name}: expected a whole number"):
            TokenProbe(**{name: value})
    with pytest.raises(InputError, match="phones: expected 'auto', 'data', 'aligned' or 'none'"):
        TokenProbe("heard")  # type: ignore[arg-type]
    assert not (tmp_path / "summary.json").exists()


def test_a_probe_without_figures_says_so_instead_of_a_heading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = TinyTalk()
    data.heldout = ["t4"]
    logger = CSVLogger(tmp_path, name="", version="")
    fit(guided(iterations=3), data, [TokenProbe("none", conversions=0)], logger=logger)
    said = capsys.readouterr().out
    assert "What each level tells by itself: no figure, for want of phones" in said
    assert "Model" not in said
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["speaker_accuracy"] for row in rows] == [None, None, None]


@pytest.mark.parametrize("source", ["auto", "none"])
def test_speech_without_transcripts_has_its_other_figures(source: Any, tmp_path: Path) -> None:
    data = talk()
    for utterance in data.splits.heldout:
        utterance.__dict__["phones"] = None
        utterance.__dict__["transcript"] = ""
    logger = CSVLogger(tmp_path, name="", version="")
    probe = TokenProbe(source, folds=3, conversions=0)
    warned = pytest.warns(UserWarning, match="for want of phones or transcripts in the data")
    with warned if source == "auto" else nullcontext():
        fit(guided(iterations=3), data, [probe], logger=logger)
    rows = json.loads((tmp_path / "summary.json").read_text())
    for row in rows:
        assert row["phone_information"] is None
        assert row["speaker_accuracy"] >= 0
