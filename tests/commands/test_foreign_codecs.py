"""Codecs of transformers wherever a codec is named."""

import json
from pathlib import Path

import pytest
import soundfile
import torch
import yaml

import kdlight
from kdlight.storage.audio import read_audio
from kdlight.storage.tokens import read_tokens
from kdlight.teachers.codec import CodecTeacher, load_codec
from kdlight.training.optim import Optimization
from modules.speech.codec_training import CodecTraining
from tests.codec.foreign.models import RATE, own_audio, own_codes, saved
from tests.commands.codecs import saved as own_saved
from tests.commands.tiny import Result, Run, last_line
from tests.metrics.speech.signals import voice


@pytest.mark.parametrize("kind", ["encodec", "mimi"])
def test_a_folder_is_a_codec_for_every_verb(kind: str, kdlight: Run, tmp_path: Path) -> None:
    model, folder = saved(tmp_path, kind)
    source = tmp_path / "in" / "a.wav"
    source.parent.mkdir()
    soundfile.write(source, voice(0.5).numpy(), RATE)
    named = ["--checkpoint", folder]
    found = kdlight("encode", *named, source, "--output", tmp_path / "t")
    assert (found.code, last_line(found.out)) == (0, tmp_path / "t"), found.err
    tokens = read_tokens(tmp_path / "t" / "a.npz")
    assert torch.equal(tokens.codes, own_codes(model, read_audio(source)[None])[0])
    assert tokens.facts.codec == kind
    found = kdlight("decode", *named, tmp_path / "t", "--output", tmp_path / "o")
    assert found.code == 0, found.err
    heard, _ = soundfile.read(tmp_path / "o" / "a.wav", dtype="float32")
    expected = own_audio(model, tokens.codes[None])[0, 0, : len(heard)].clamp(-1, 1)
    torch.testing.assert_close(torch.from_numpy(heard), expected, atol=1 / 32768, rtol=0)
    found = kdlight(
        "evaluate", "codec", *named, "--reference", tmp_path / "in", "--n-q", 2,
        "--metrics", "si_sdr", "--output", tmp_path / "figures.json",
    )  # fmt: skip
    assert found.code == 0, found.err
    row = json.loads((tmp_path / "figures.json").read_text())[0]
    assert (row["model"], row["n_q"], row["sha256"]) == (kind, 2, tokens.facts.codec_sha256)


def test_a_folder_is_a_codec_in_python_and_a_teacher(tmp_path: Path) -> None:
    model, folder = saved(tmp_path, "dac")
    codec = kdlight.load(folder)
    assert (codec.sample_rate, codec.module.frame_rate) == (RATE, RATE / 24)
    audio = voice(0.3)
    codes = codec.encode(audio, RATE)
    assert torch.equal(codes, own_codes(model, audio[None, None])[0])
    assert codec.decode(codes).shape == (len(audio),)
    teacher = CodecTeacher(str(folder), n_q=2)
    assert torch.equal(teacher.codes(audio[None, None], torch.tensor([len(audio)]))[0], codes[:2])
    assert teacher(audio[None, None]).features.shape == (1, codes.shape[1], teacher.width)


def test_an_id_of_the_hub_is_read_where_it_is_named(
    kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved(tmp_path, "encodec")
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if name != "someone/encodec":
            raise OSError("no network")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", voice(0.2).numpy(), RATE)
    found = kdlight("encode", "--checkpoint", "someone/encodec", "a.wav", "--output", "t")
    assert found.code == 0, found.err
    assert asked == [("someone/encodec", ["*.json", "*.safetensors"])]
    assert read_tokens(Path("t/a.npz")).facts.codec == "encodec"
    found = kdlight("encode", "--checkpoint", "someone/else", "a.wav", "--output", "t2")
    assert (found.code, found.out) == (2, "")
    assert len(found.err.strip().splitlines()) == 1
    assert "someone/else: no such file or folder, and no repository" in found.err
    assert not Path("t2").exists()


def test_a_folder_becomes_a_file_and_a_folder_again(kdlight: Run, tmp_path: Path) -> None:
    model, folder = saved(tmp_path, "mimi")
    file, back = tmp_path / "codec.safetensors", tmp_path / "back"
    assert kdlight("export", "--checkpoint", folder, "--output", file).code == 0
    found = kdlight("export", "--checkpoint", file, "--to", "transformers", "--output", back)
    assert (found.code, last_line(found.out)) == (0, back), found.err
    again = type(model).from_pretrained(back)
    audio = torch.randn(1, 1, 1000)
    assert torch.equal(again.encode(audio).audio_codes, model.encode(audio).audio_codes)
    found = kdlight("export", "--checkpoint", file, "--output", tmp_path / "other.safetensors")
    assert (found.code, found.out) == (2, "")
    assert "codec.safetensors: a codec is taken as it is by encode and decode, and" in found.err
    assert not (tmp_path / "other.safetensors").exists()


def test_training_goes_on_with_a_codec_that_a_file_holds(kdlight: Run, tmp_path: Path) -> None:
    settings = yaml.safe_load((Path(__file__).parent / "tiny_codec.yaml").read_text())
    part = {"class_path": "kdlight.teachers.codec.load_codec", "init_args": {"path": "none"}}
    settings["model"]["init_args"] |= {"codec": part, "iterations": 2}
    settings["trainer"]["callbacks"] = []
    config = tmp_path / "config.yaml"

    def fit(path: Path) -> Result:
        part["init_args"]["path"] = str(path)
        config.write_text(yaml.safe_dump(settings))
        return kdlight("fit", "--config", config, "--runs_dir", tmp_path / "runs")

    found = fit(tmp_path / "none.safetensors")
    assert found.code == 2
    assert "none.safetensors: no such file" in found.err
    _, folder = saved(tmp_path, "encodec")
    assert fit(folder).code == 0
    before = load_codec(str(folder)).state_dict()
    run = tmp_path / "runs" / "tiny_codec" / "version_0" / "checkpoints" / "last.ckpt"
    after = load_codec(str(run)).state_dict()
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if "quantizer" in name} <= same
    assert len(same) < len(before) / 4


def test_a_loaded_codec_is_trained_as_a_new_one(tmp_path: Path) -> None:
    _, path = own_saved(tmp_path)
    training = CodecTraining(load_codec(str(path)), Optimization())
    assert all(part.training for part in training.codec.modules())


def test_token_files_hold_the_scales_of_pieces(kdlight: Run, tmp_path: Path) -> None:
    codec = load_codec(str(saved(tmp_path, "pieces")[1]))
    soundfile.write(tmp_path / "a.wav", voice(1.2).numpy(), RATE)
    named = ["--codec", tmp_path / "pieces"]
    found = kdlight(
        "encode",
        *named,
        tmp_path / "a.wav",
        "--output",
        tmp_path / "t",
        "--block-seconds",
        1,
        "--batch-size",
        2,
    )
    assert found.code == 0, found.err
    tokens = read_tokens(tmp_path / "t" / "a.npz")
    audio = read_audio(tmp_path / "a.wav")[None]
    assert torch.equal(tokens.codes, codec.encode(audio)[0])
    assert torch.equal(tokens.scales, codec.scales(audio)[0])
    found = kdlight("decode", *named, tmp_path / "t", "--output", tmp_path / "o")
    assert found.code == 0, found.err
    heard, _ = soundfile.read(tmp_path / "o" / "a.wav", dtype="float32")
    expected = codec.decode(tokens.codes[None], tokens.scales[None])[0, 0, : len(heard)]
    assert len(heard) == audio.shape[-1]
    torch.testing.assert_close(torch.from_numpy(heard), expected, atol=1 / 32768, rtol=0)
    found = kdlight(
        "evaluate", "codec", *named, "--reference", tmp_path, "--limit", 1, "--metrics", "si_sdr"
    )
    assert found.code == 0, found.err
    (tmp_path / "t" / "a.json").unlink()
    found = kdlight("decode", *named, tmp_path / "t", "--output", tmp_path / "p")
    assert found.code == 2
    assert "codes without the scales of pieces: expected a codec of audio as a whole" in found.err
