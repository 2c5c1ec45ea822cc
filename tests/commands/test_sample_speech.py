"""``sample --text``: what it writes, and what it refuses."""

import pytest
import soundfile

import kdlight
from kdlight.cli import main
from kdlight.storage.files import save_model
from tests.modules.speech.synthesis_cases import tiny_teacher


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech") / "model.safetensors"
    save_model(tiny_teacher(), path, {})
    return path


def say(model, output, *words):
    return main(["sample", "--checkpoint", str(model), "--output", str(output), *words])


def test_it_speaks(model, tmp_path, capsys):
    path = tmp_path / "x.wav"
    assert say(model, path, "--text", "hh-ah-l-ow, w-er-l-d", "--speaker", "1", "--steps", "2") == 0
    assert capsys.readouterr().out.strip().endswith(str(path))
    samples, rate = soundfile.read(path)
    assert rate == 8000
    assert len(samples) > 10 * 160
    spoken = kdlight.load(model).speak("hh-ah-l-ow, w-er-l-d", 1, steps=2)
    assert spoken.audio.shape[1] == len(samples)


def test_a_long_text_is_spoken_in_pieces(model, tmp_path):
    path = tmp_path / "long.flac"
    assert say(model, path, "--text", "hh-ah-l-ow " * 455) == 0
    assert soundfile.info(path).frames > 1800 * 160


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--text", ""], "--text: expected words of phones such as hh-ah-l-ow, found ''"),
        (["--text", "hh-ehl-ow"], "found 'ehl' in 'hh-ehl-ow'"),
        (["--text", "iy", "--speaker", "2"], "--speaker: expected a voice from 0 to 1, found 2"),
        (["--text", "iy", "--speaker", "-1"], "--speaker: expected a voice from 0 to 1, found -1"),
        (["--text", "iy", "--label", "1"], "--label: expected pictures to draw, found a --text"),
        (["--text", "iy " * 9000], "--text: expected at most 20000 characters, found 27000"),
        (["--speaker", "1"], "--speaker: expected a --text to say, found none"),
    ],
)
def test_what_it_does_not_know_is_told_in_a_sentence(model, tmp_path, capsys, words, sentence):
    assert say(model, tmp_path / "x.wav", *words) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not (tmp_path / "x.wav").exists()


def test_other_suffixes_are_refused(model, tmp_path, capsys):
    assert say(model, tmp_path / "x.png", "--text", "iy") == 2
    assert "expected a name ending in .wav, .flac" in capsys.readouterr().err
