"""The bundled codec: speech to tokens and back without having trained anything."""

from pathlib import Path

import pytest
import soundfile
import torch

from datamodules.speech.formant import FormantDataModule
from kdlight.metrics.speech.spectral import log_mel_l1
from tests.commands.tiny import Run

RATE, MOST = 16_000, 0.5


@pytest.fixture(scope="module")
def spoken() -> torch.Tensor:
    """A sentence of a voice that no codec was trained on, (1, T)."""
    data = FormantDataModule(speakers=2, utterances=1, words=(3, 3), heldout=1)
    data.setup()
    return data.heldout_utterances()[0].read()


def test_speech_comes_back(
    spoken: torch.Tensor, tmp_path: Path, kdlight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("said.wav", spoken[0].numpy(), RATE)
    assert kdlight("encode", "said.wav", "--output", "tokens").code == 0
    errors = []
    for levels in (1, 8):
        words = ("tokens", "--n-q", levels, "--output", f"levels_{levels}")
        assert kdlight("decode", *words).code == 0
        audio, rate = soundfile.read(f"levels_{levels}/said.wav", dtype="float32")
        assert (rate, len(audio)) == (RATE, spoken.shape[1])
        errors.append(float(log_mel_l1(spoken[0], torch.from_numpy(audio), RATE)))
    assert errors[1] < MOST < errors[0]


def test_it_finds_no_syllables(tmp_path: Path, kdlight: Run) -> None:
    found = kdlight("encode", "a.wav", "--segments", "--output", tmp_path / "x")
    assert found.code == 2
    assert found.err.endswith("--segments: expected --checkpoint of an encoder of syllables.\n")
