"""Guidances with a misspelt name or key, with the configuration's data and with other data."""

from pathlib import Path

import pytest

from tests.commands.tiny import Run, refused

GUIDED = Path(__file__).parents[2] / "configs/speech/quickstart_guided.yaml"
OTHER_DATA = (
    *("--data", "datamodules.speech.speech_folder.SpeechFolderDataModule"),
    *("--data.init_args.data_dir", "speech"),
)


@pytest.mark.parametrize("data", [(), OTHER_DATA])
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("wisper.levels", "guidances.wisper.source: Guidance needs it, found none"),
        ("whisper.levles", "guidances.whisper.levles: Guidance takes no levles; did you mean"),
    ],
)
def test_a_misspelt_guidance_is_named(
    option: str, expected: str, data: tuple[str, ...], kdlight: Run, tmp_path: Path
) -> None:
    words = ["fit", "--config", GUIDED, "--runs_dir", tmp_path, *data]
    words += [f"--model.init_args.guidances.{option}", "[1]"]
    refused(kdlight, words, f"--model.init_args.{expected}", where=tmp_path)
