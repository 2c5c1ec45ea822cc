"""``sample --text`` by way of a codec's codes: what it writes, and what it refuses."""

import pytest
import soundfile
import torch

from kdlight.cli import main
from kdlight.networks.speech.token_talker import digest_bytes
from kdlight.storage.files import save_model
from tests.modules.speech.spoken_cases import (
    saved_codec,
    sentence_codec,
    tiny_filler,
    tiny_writer,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    digest = digest_bytes(sentence_codec())
    for name, model in (("writer", tiny_writer()), ("filler", tiny_filler())):
        model.codec.copy_(digest)
        save_model(model, folder / f"{name}.safetensors", {})
    saved_codec(folder)
    saved_codec(folder, 2)
    noise = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    soundfile.write(folder / "prompt.wav", noise.numpy(), 8000)
    soundfile.write(folder / "short.wav", noise[:800].numpy(), 8000)
    soundfile.write(folder / "silent.wav", 0 * noise.numpy(), 8000)
    return folder


def say(files, output, *words, acoustic="filler", codec="codec_1"):
    given = {"--checkpoint": "writer", "--acoustic": acoustic, "--codec": codec}
    options = [word for key, name in given.items() for word in (key, f"{files / name}.safetensors")]
    return main(["sample", *options, "--output", str(output), *map(str, words)])


def test_it_speaks_in_a_voice_and_in_that_of_a_prompt(files, tmp_path, capsys):
    for name, words in (
        ("a", ["--speaker", "1"]),
        ("b", ["--speaker", "1"]),
        ("c", ["--speaker", "0", "--steps", "1"]),
        ("d", ["--prompt", files / "prompt.wav"]),
        ("e", ["--speaker", "1", "--seed", "3"]),
    ):
        path = tmp_path / f"{name}.wav"
        assert say(files, path, "--text", "hh-ah-l-ow, w-er-l-d. iy", *words) == 0
        assert capsys.readouterr().out.strip().endswith(str(path))
    first, again, *others = (soundfile.read(tmp_path / f"{name}.wav") for name in "abcde")
    assert first[1] == 8000
    assert len(first[0]) >= 2 * 160
    assert (first[0] == again[0]).all()
    assert all(len(other) != len(first[0]) or (other != first[0]).any() for other, _ in others)


def test_a_long_text_is_spoken_in_pieces(files, tmp_path):
    path = tmp_path / "long.flac"
    assert say(files, path, "--text", ("hh-ah-l-ow " * 455)[:5000].rpartition(" ")[0]) == 0
    assert soundfile.info(path).frames > 50 * 160


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--text", ""], "--text: expected words of phones such as hh-ah-l-ow, found ''"),
        (["--text", "hh-ehl-ow"], "found 'ehl' in 'hh-ehl-ow'"),
        (["--text", "iy", "--speaker", "2"], "--speaker: expected a voice from 0 to 1, found 2"),
        (["--text", "iy", "--prompt", "short.wav"], "--prompt: expected 0.25 s of speech or more"),
        (["--text", "iy", "--prompt", "silent.wav"], "--prompt: expected speech, found silence"),
        (["--text", "iy", "--prompt", "none.wav"], "none.wav"),
        (["--text", "iy", "--speaker", "1", "--prompt", "prompt.wav"], "none with --speaker"),
        (["--text", "iy " * 9000], "--text: expected at most 20000 characters, found 27000"),
    ],
)
def test_what_it_does_not_know_is_told_in_a_sentence(files, tmp_path, capsys, words, sentence):
    words = [files / word if word.endswith(".wav") else word for word in words]
    assert say(files, tmp_path / "x.wav", *words) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not (tmp_path / "x.wav").exists()


def test_models_that_do_not_belong_together_are_refused(files, tmp_path, capsys):
    path = tmp_path / "x.wav"
    assert say(files, path, "--text", "iy", codec="codec_2") == 2
    assert "checkpoint: expected a model of the codes of this codec" in capsys.readouterr().err
    assert say(files, path, "--text", "iy", acoustic="writer") == 2
    assert "expected a model of the other levels of codes, found writer" in capsys.readouterr().err
    writer = f"{files / 'writer'}.safetensors"
    words = ["sample", "--checkpoint", writer, "--output", str(path), "--text", "iy"]
    assert main(words) == 2
    assert "expected a speech synthesiser, found a SemanticWriter" in capsys.readouterr().err
    assert main([*words, "--acoustic", writer]) == 2
    assert "--acoustic and --codec: expected both, found one" in capsys.readouterr().err
    assert main([*words, "--prompt", str(files / "prompt.wav")]) == 2
    assert "--prompt: expected --acoustic and --codec beside it" in capsys.readouterr().err
    assert main([*words[:-2], "--codec", writer]) == 2
    assert "--codec: expected a --text to say, found none" in capsys.readouterr().err
