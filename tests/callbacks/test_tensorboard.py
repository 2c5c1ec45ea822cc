"""What a run shows on TensorBoard, read back from its events."""

from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdlight.callbacks.speech.codec import CodecReport
from kdlight.callbacks.tensorboard import flattened
from kdlight.cli import main
from tests.callbacks.speech_runs import RATE, FewVoices, training
from tests.commands.tiny import TINY
from tests.exactness.harness import fit


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def test_samples_and_settings_of_a_run(tmp_path: Path) -> None:
    assert main(["fit", "--config", str(TINY), "--runs_dir", str(tmp_path)]) == 0
    found = events(tmp_path / "tiny" / "version_0")
    assert {"samples/progress", "samples/final_student_1"} <= set(found.Tags()["images"])
    assert [each.step for each in found.Images("samples/progress")] == [7, 14, 20]
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.init_args.optimizer.lr" in content
    assert not [tag for tag in found.Tags()["scalars"] if "hp_metric" in tag]


def test_a_codec_is_heard(tmp_path: Path) -> None:
    report = CodecReport(metrics=["si_sdr"], preview=0, shown=1, shown_seconds=0.3)
    logger: Any = partial(TensorBoardLogger, name="", version="")
    fit(training(iterations=2), FewVoices(), [report], logger=logger(tmp_path))
    found = events(tmp_path)
    assert {"samples/utterance_0_original", "samples/utterance_0_1"} <= set(found.Tags()["audio"])
    assert found.Audio("samples/utterance_0_original")[0].sample_rate == RATE
    assert "samples/utterance_0_1" in found.Tags()["images"]


def test_settings_are_flattened() -> None:
    nested = {"model": {"lr": 0.1, "on": True}, "list": [{"a": "b"}], "none": None, "empty": []}
    assert flattened(nested) == {
        "model.lr": 0.1, "model.on": True, "list.0.a": "b", "none": "None", "empty": "[]",
    }  # fmt: skip
