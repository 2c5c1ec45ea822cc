"""The report on a codec: rows, lines, samples, what validation logs, ranks, bad input."""

import csv
import json
import math
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from kdlight.callbacks.speech.codec import CodecReport, levels_of, measured
from kdlight.errors import InputError
from kdlight.metrics.speech.evaluation import SpeechEvaluation
from kdlight.report.audio import load_utterances
from kdlight.storage.audio import read_audio
from modules.speech.codec_training import CodecTraining
from tests.callbacks.speech_runs import HOP, N_Q, RATE, FewVoices, tiny_codec, trained
from tests.exactness.diffusion_cases import diffusion_training
from tests.exactness.harness import TinyImages, differing, fit, state

OWN = ["si_sdr", "log_mel_l1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CodecTraining]:
    """The folder of a run of two validations with a report, and its module."""
    folder = tmp_path_factory.mktemp("run")
    report = CodecReport(metrics=OWN, preview=2, shown=2, shown_seconds=0.3)
    return folder, trained(folder, [report])


def test_a_row_for_each_number_of_levels(run: tuple[Path, CodecTraining]) -> None:
    folder, module = run
    rows = json.loads((folder / "summary.json").read_text())
    assert [(row["model"], row["n_q"]) for row in rows] == [("codec", n_q) for n_q in (1, 2, 3)]
    utterances = FewVoices().heldout_utterances()
    seconds = sum(each.samples for each in utterances) / RATE
    codec = module.codec.eval()
    for row in rows:
        n_q = row["n_q"]
        assert row["kbps"] == pytest.approx(RATE / HOP * n_q * 3 / 1000)
        assert (row["utterances"], row["seconds"]) == (4, pytest.approx(seconds))
        assert len(row["usage"]) == len(row["perplexity"]) == n_q
        assert row["rtf_encode"] > 0
        assert row["rtf_decode"] > 0
        evaluation = SpeechEvaluation(OWN)
        codes = []
        for each in utterances:
            codes.append(codec.encode(each.read()[None], n_q))
            heard = codec.decode(codes[-1])[0, 0, : each.samples]
            evaluation.update(each.name, each.read()[0], heard, RATE)
        for name, found in evaluation.summary().items():
            assert row[name] == pytest.approx(found["mean"], rel=1e-5), name
        used = [torch.cat(codes, -1)[0, level].unique().numel() / 8 for level in range(n_q)]
        assert row["usage"] == pytest.approx(used)


def test_a_line_for_each_utterance_and_number_of_levels(run: tuple[Path, CodecTraining]) -> None:
    folder, _ = run
    lines = [json.loads(line) for line in (folder / "utterances.jsonl").open()]
    names = [each.name for each in FewVoices().heldout_utterances()]
    assert [(line["n_q"], line["utterance"]) for line in lines] == [
        (n_q, name) for n_q in (1, 2, 3) for name in names
    ]
    rows = json.loads((folder / "summary.json").read_text())
    mean = sum(line["si_sdr"] for line in lines[:4]) / 4
    assert rows[0]["si_sdr"] == pytest.approx(mean)


def test_samples_are_there_to_listen_to(run: tuple[Path, CodecTraining]) -> None:
    folder, module = run
    notes: list[str] = []
    shown = load_utterances(folder / "samples", notes)
    assert not notes
    first = FewVoices().heldout_utterances()[:2]
    assert [each.name for each in shown] == [each.name for each in first]
    assert [each.transcript for each in shown] == ["", "hello there"]
    codec = module.codec.eval()
    for seen, known in zip(shown, first, strict=True):
        assert seen.seconds == 0.3
        assert [version.n_q for version in seen.versions] == [None, 1, 2, 3]
        whole = known.read()
        for version in seen.versions:
            expected = whole
            if version.n_q is not None:
                expected = codec.decode(codec.encode(whole[None], version.n_q))[0]
                assert version.figures.keys() >= set(OWN)
            expected = expected[:, : int(0.3 * RATE)].clamp(-1, 1)
            heard = read_audio(version.audio)
            torch.testing.assert_close(heard, expected, rtol=0, atol=1 / 32768)
            assert version.picture.read_bytes().startswith(b"\x89PNG")


def test_validation_logs_the_codec_with_all_levels(run: tuple[Path, CodecTraining]) -> None:
    folder, _ = run
    with (folder / "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("val/si_sdr")]
    assert [float(row["iteration"]) for row in rows] == [5, 10]
    for row in rows:
        assert math.isfinite(float(row["val/log_mel_l1"]))
        for level in range(1, N_Q + 1):
            assert 0 < float(row[f"val/usage_{level}"]) <= 1
            assert 1 <= float(row[f"val/perplexity_{level}"]) <= 8


def test_measuring_changes_nothing(run: tuple[Path, CodecTraining], tmp_path: Path) -> None:
    _, module = run
    assert not list(differing(state(module), state(trained(tmp_path, []))))


def test_a_codec_that_says_nothing_finite_is_reported_and_not_a_crash(tmp_path: Path) -> None:
    class Ruined(CodecTraining):
        def on_train_end(self) -> None:
            """Breaks the decoder before the report looks at it."""

    module = trained(tmp_path / "first", [])
    with torch.no_grad():
        module.codec.decoder.backbone.end.bias.fill_(torch.nan)
    report = CodecReport(metrics=OWN, shown=1)
    trainer = SimpleNamespace(
        log_dir=str(tmp_path), is_global_zero=True, loggers=[], world_size=1, global_rank=0,
        datamodule=FewVoices(),
    )  # fmt: skip
    report._summarise(trainer, module)
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["si_sdr"] for row in rows] == [None, None, None]
    assert len(load_utterances(tmp_path / "samples", [])) == 1


def share_of(rank: int, ranks: int, place: str) -> dict[str, Any]:
    """What one of some ranks makes of all utterances."""
    codec = tiny_codec()
    codec(torch.stack([each.read()[:, :8000] for each in FewVoices().training_utterances()]))
    trainer: Any = SimpleNamespace(world_size=ranks, global_rank=rank)
    utterances = FewVoices().heldout_utterances()[:3]
    if ranks > 1:
        dist.init_process_group("gloo", f"file://{place}", rank=rank, world_size=ranks)
    try:
        evaluation = SpeechEvaluation(OWN)
        row, lines = measured(trainer, torch.device("cpu"), codec, 2, utterances, evaluation)
    finally:
        if ranks > 1:
            dist.destroy_process_group()
    kept = {key: value for key, value in row.items() if not key.startswith("rtf")}
    assert row["rtf_encode_cpu"] > 0
    return {"row": kept, "lines": lines}


def answer(rank: int, place: str, queue: Any) -> None:
    torch.set_num_threads(1)
    queue.put((rank, share_of(rank, 2, place)))


def test_two_ranks_find_what_one_finds(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")  # the packages are imported already
    queue = forked.Queue()
    ranks = [
        forked.Process(target=answer, args=(rank, str(tmp_path / "meet"), queue)) for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    found = dict(queue.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join()
    one = share_of(0, 1, "")
    assert found[0] == found[1]
    assert found[0]["lines"] == one["lines"]
    assert found[0]["row"] == one["row"]


def test_levels_are_powers_of_two_and_all_unless_asked() -> None:
    assert levels_of(SimpleNamespace(n_q=8), None) == [1, 2, 4, 8]  # type: ignore[arg-type]
    assert levels_of(SimpleNamespace(n_q=6), None) == [1, 2, 4, 6]  # type: ignore[arg-type]
    assert levels_of(tiny_codec(), [3, 1, 3]) == [1, 3]
    for asked in ([], [0], [4]):
        with pytest.raises(InputError, match="n_q: expected numbers from 1 to 3"):
            levels_of(tiny_codec(), asked)


def test_what_cannot_be_measured_is_refused_before_training(tmp_path: Path) -> None:
    for data, report, why in (
        (FewVoices([]), {}, "data.heldout: expected held-out utterances to measure, found none"),
        (FewVoices(rate=8000), {}, "data.sample_rate: expected 16000 of the codec, found 8000"),
        (FewVoices(), {"n_q": [4]}, r"n_q: expected numbers from 1 to 3, found \[4\]"),
    ):
        with pytest.raises(InputError, match=why):
            trained(tmp_path, [CodecReport(metrics=OWN, **report)], data)
    with pytest.raises(InputError, match="expected a method that trains a codec, found Diffusion"):
        fit(diffusion_training(), TinyImages(), [CodecReport(metrics=OWN)])
    with pytest.raises(InputError, match="expected data of speech, found TinyImages"):
        trained(tmp_path, [CodecReport(metrics=OWN)], TinyImages())
    assert not (tmp_path / "summary.json").exists()
    for settings, why in (
        ({"preview": -1}, "preview: expected a whole number of at least 0, found -1"),
        ({"utterances": 0}, "utterances: expected a whole number above 0, found 0"),
        ({"shown_seconds": 0.0}, "shown_seconds: expected a number above 0"),
        ({"metrics": ["peks"]}, "'peks'"),
    ):
        with pytest.raises(InputError, match=why):
            CodecReport(**settings)
