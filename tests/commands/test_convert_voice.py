"""``convert-voice``: as long as its original, in another voice, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kdlight.storage.files import save_model
from tests.commands.codecs import saved
from tests.commands.tiny import Run
from tests.modules.speech.timbre_cases import tiny_converter

RATE = 8000


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converter, a voice, and a folder of two recordings."""
    monkeypatch.chdir(tmp_path)
    model = tiny_converter()
    model.learn([noise(0.5, seed) for seed in (1, 2)])
    save_model(model, Path("model.safetensors"))
    (tmp_path / "said" / "anna").mkdir(parents=True)
    for seed, name in enumerate(("who.wav", "said/one.flac", "said/anna/two.wav")):
        soundfile.write(name, noise(0.5 + 0.0137 * seed, seed)[0].numpy(), RATE)
    return tmp_path


def noise(seconds: float, seed: int) -> torch.Tensor:
    samples = np.random.default_rng(seed).standard_normal((1, round(seconds * RATE)))
    return torch.from_numpy(0.1 * samples).float()


WORDS = ("--to", "who.wav", "--checkpoint", "model.safetensors", "--output", "out")


def test_each_is_as_long_as_its_original_and_in_its_place(place: Path, kdlight: Run) -> None:
    assert kdlight("convert-voice", "said", *WORDS).code == 0
    found = {name: soundfile.read(f"out/{name}")[0] for name in ("one.wav", "anna/two.wav")}
    assert [len(each) for each in found.values()] == [4110, 4219]
    assert kdlight("convert-voice", "said/one.flac", *WORDS, "--seed", 1).code == 0
    other = soundfile.read("out/one.wav")[0]
    assert not np.array_equal(other, found["one.wav"])
    soundfile.write("who.wav", noise(0.7, 9)[0].numpy(), RATE)
    assert kdlight("convert-voice", "said/one.flac", *WORDS, "--seed", 1).code == 0
    assert not np.array_equal(soundfile.read("out/one.wav")[0], other)


def test_a_long_recording_is_converted_in_parts_and_keeps_its_pauses(
    place: Path, kdlight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdlight.commands.convert_voice.LONGEST", 0.6)
    long = torch.cat([noise(0.5, 1), torch.zeros(1, RATE // 2), noise(0.5, 2)], dim=1)
    soundfile.write("long.wav", long[0].numpy(), RATE)
    assert kdlight("convert-voice", "long.wav", *WORDS).code == 0
    audio = soundfile.read("out/long.wav")[0]
    assert len(audio) == long.shape[1]
    thirds = np.array_split(audio, 3)
    assert not thirds[1].any()
    assert thirds[0].any()
    assert thirds[2].any()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("said/one.flac", "--to", "silent.wav"), "--to silent.wav: expected speech, found sil"),
        (("said/one.flac", "--to", "short.wav"), "--to short.wav: expected 0.25 s of speech"),
        (("said/one.flac", "--to", "endless.wav"), "--to endless.wav: expected at most 20 s"),
        (("said/one.flac", "--to", "nowhere.wav"), "nowhere.wav: no such file"),
        (("silent.wav",), "silent.wav: expected speech, found silence"),
        (("said/anna/two.wav", "--output", "said/anna"), "expected another folder than that of"),
        (
            ("said", "--checkpoint", "causal0.safetensors"),
            "expected a converter of voices, found",
        ),
        (("said", "--model", "x"), "expected a model called 'x', found model"),
    ],
)
def test_what_is_refused(place: Path, kdlight: Run, words: tuple[str, ...], expected: str) -> None:
    saved(place)
    soundfile.write("silent.wav", np.zeros(RATE), RATE)
    soundfile.write("short.wav", noise(0.1, 3)[0].numpy(), RATE)
    soundfile.write("endless.wav", noise(21.0, 3)[0].numpy(), RATE)
    before = Path("said/anna/two.wav").read_bytes()
    found = kdlight("convert-voice", *WORDS, *words)
    assert found.code == 2
    assert expected in found.err
    assert found.err.count("\n") == 1
    assert not Path("out").exists()
    assert Path("said/anna/two.wav").read_bytes() == before
