"""``encode`` and ``decode``: what the codec itself gives, long files, odd and bad ones."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from kdlight.codec import streaming
from kdlight.codec.codec import Codec
from kdlight.storage.audio import read_audio
from kdlight.storage.files import sha256_of
from kdlight.storage.tokens import read_tokens
from tests.commands.codecs import KINDS, RATE, assert_same_codes, saved
from tests.commands.tiny import Run, last_line, tree
from tests.metrics.speech.signals import voice

STEP = 1 / 32768


def write(path: Path, audio: Tensor, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.numpy(), rate, subtype=subtype)
    return path


def coded(codec: Codec, path: Path, n_q: int | None = None) -> Tensor:
    """Codes (n_q, F) of a file, from the codec itself."""
    return codec.encode(read_audio(path, RATE)[None], n_q)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_files_hold_what_the_codec_gives(kind: str, kdlight: Run, tmp_path: Path) -> None:
    codec, checkpoint = saved(tmp_path, kind)
    speech = [write(tmp_path / "in" / name, voice(1.3)) for name in ("a/one.wav", "two.flac")]
    found = kdlight(
        "encode", "--checkpoint", checkpoint, tmp_path / "in", "--output", tmp_path / "tokens"
    )
    assert (found.code, last_line(found.out)) == (0, tmp_path / "tokens"), found.err
    for name, source in zip(("a/one", "two"), speech, strict=True):
        tokens = read_tokens(tmp_path / "tokens" / f"{name}.npz")
        assert torch.equal(tokens.codes, coded(codec, source))
        assert (tokens.facts.samples, tokens.facts.source) == (int(1.3 * RATE), source.name)
    for format, n_q in (("wav", 2), ("flac", 3)):
        words = ["--n-q", 2] if n_q == 2 else []
        out = tmp_path / format
        found = kdlight(
            "decode", "--checkpoint", checkpoint, tmp_path / "tokens", "--output", out,
            "--format", format, *words,
        )  # fmt: skip
        assert (found.code, last_line(found.out)) == (0, out), found.err
        expected = codec.decode(coded(codec, speech[0])[None, :n_q])[0, 0, : int(1.3 * RATE)]
        heard, rate = soundfile.read(out / f"a/one.{format}", dtype="float32")
        assert rate == RATE
        np.testing.assert_allclose(heard, expected.clamp(-1, 1), rtol=0, atol=STEP)
    assert len(tokens.codes.unique()) > 5


def test_tokens_are_plain_numbers_and_their_description_plain_json(
    kdlight: Run, tmp_path: Path
) -> None:
    _, checkpoint = saved(tmp_path)
    source = write(tmp_path / "a.wav", voice(0.5))
    kdlight("encode", "--checkpoint", checkpoint, source, "--output", tmp_path / "t", "--n-q", 2)
    with np.load(tmp_path / "t" / "a.npz", allow_pickle=False) as archive:
        assert archive.files == ["codes"]
        assert archive["codes"].dtype == np.uint16
        assert archive["codes"].shape == (2, 25)
    facts = json.loads((tmp_path / "t" / "a.json").read_text())
    assert facts["codec_sha256"] == sha256_of(checkpoint)
    assert (facts["n_q"], facts["frame_rate"], facts["samples"]) == (2, 50.0, RATE // 2)


@pytest.mark.parametrize("kind", ["causal", "frame_rate"])
def test_a_long_file_in_blocks_is_the_whole(
    kind: str, kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "WINDOW", 60)
    codec, checkpoint = saved(tmp_path, kind)
    source = write(tmp_path / "a.wav", voice(5.37))
    blocks = ["--checkpoint", checkpoint, "--block-seconds", 1]
    assert kdlight("encode", *blocks, source, "--output", tmp_path / "t").code == 0
    codes = read_tokens(tmp_path / "t" / "a.npz").codes
    assert_same_codes(codec, read_audio(source), codes)
    assert kdlight("decode", *blocks, tmp_path / "t", "--output", tmp_path / "o").code == 0
    heard, _ = soundfile.read(tmp_path / "o" / "a.wav", dtype="float32")
    expected = codec.decode(codes[None])[0, 0, : int(5.37 * RATE)].clamp(-1, 1)
    np.testing.assert_allclose(heard, expected, rtol=0, atol=STEP + 1e-5)


ODD = {
    "8 kHz": (voice(0.7, 8000), 8000, "PCM_16"),
    "stereo": (torch.stack([voice(0.5, 44100), -0.5 * voice(0.5, 44100)], dim=1), 44100, "PCM_24"),
    "clipped": ((40 * voice(0.5)).clamp(-1, 1), RATE, "PCM_16"),
    "beyond 1": (15 * voice(0.5), RATE, "FLOAT"),
    "one sample": (torch.tensor([0.25]), RATE, "PCM_16"),
    "one frame and a sample": (voice(0.5)[:321], RATE, "PCM_16"),
    "silence": (torch.zeros(1000), RATE, "PCM_16"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_odd_audio_is_coded_like_any(kind: str, kdlight: Run, tmp_path: Path) -> None:
    codec, checkpoint = saved(tmp_path, kind)
    for name, (audio, rate, subtype) in ODD.items():
        write(tmp_path / "in" / f"{name}.wav", audio, rate, subtype)
    words = ["--checkpoint", checkpoint]
    found = kdlight("encode", *words, tmp_path / "in", "--output", tmp_path / "t")
    assert found.code == 0, found.err
    found = kdlight("decode", *words, tmp_path / "t", "--output", tmp_path / "o")
    assert found.code == 0, found.err
    for name, (audio, rate, _) in ODD.items():
        tokens = read_tokens(tmp_path / "t" / f"{name}.npz")
        assert torch.equal(tokens.codes, coded(codec, tmp_path / "in" / f"{name}.wav")), name
        heard, own_rate = soundfile.read(tmp_path / "o" / f"{name}.wav")
        assert (heard.shape, own_rate) == ((-(-len(audio) * RATE // rate),), RATE), name


def test_resampling_in_blocks_gives_the_codes_of_the_whole(kdlight: Run, tmp_path: Path) -> None:
    codec, checkpoint = saved(tmp_path)
    source = write(tmp_path / "a.flac", voice(6.1, 44100), 44100)
    words = ["--checkpoint", checkpoint, "--block-seconds", 1]
    assert kdlight("encode", *words, source, "--output", tmp_path).code == 0
    tokens = read_tokens(tmp_path / "a.npz")
    assert_same_codes(codec, read_audio(source, RATE), tokens.codes)


def bad_audio(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no audio to code, and what the sentence says of each."""
    whole = write(folder / "whole.flac", voice(2.0))
    cut = folder / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    words = folder / "words.wav"
    words.write_text("no audio at all")
    (folder / "nothing.wav").touch()
    return {
        "empty": (write(folder / "empty.wav", torch.zeros(0)), "found no sample"),
        "nothing": (folder / "nothing.wav", "expected audio"),
        "nan": (write(folder / "nan.wav", voice(0.5) / 0, subtype="FLOAT"), "NaN"),
        "cut": (cut, "cut short"),
        "text": (words, "expected audio"),
    }


@pytest.mark.parametrize("block", [1, 60])
def test_bad_audio_is_refused_in_a_sentence(block: int, kdlight: Run, tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path)
    for name, (path, why) in bad_audio(tmp_path / "in").items():
        found = kdlight(
            "encode", "--checkpoint", checkpoint, path, "--output", tmp_path / "t",
            "--block-seconds", block,
        )  # fmt: skip
        assert (found.code, found.out) == (2, ""), name
        assert len(found.err.strip().splitlines()) == 1, found.err
        assert path.name in found.err
        assert why in found.err
        assert not list((tmp_path / "t").glob("**/*")), name


def test_bad_files_do_not_keep_the_good_ones_back(kdlight: Run, tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path)
    bad_audio(tmp_path / "in")
    write(tmp_path / "in" / "good.wav", voice(0.5))
    words = ["--checkpoint", checkpoint]
    found = kdlight("encode", *words, tmp_path / "in", "--output", tmp_path / "t")
    assert (found.code, last_line(found.out)) == (2, tmp_path / "t")
    assert "5 of 6 files could not be done, the others were: " in found.err
    assert "words.wav: expected audio" in found.err
    assert all(name in found.err for name in ("cut.flac", "empty.wav", "nan.wav", "nothing.wav"))
    for name in ("x", "y"):
        (tmp_path / "in" / f"{name}.wav").touch()
    found = kdlight("encode", *words, tmp_path / "in", "--output", tmp_path / "t")
    assert "7 of 8 files" in found.err
    assert found.err.strip().endswith("; and 2 more.")
    assert len(found.err.strip().splitlines()) == 1
    assert sorted(tree(tmp_path / "t")) == ["good.json", "good.npz"]
    (tmp_path / "t" / "bad.npz").write_bytes(b"PK")
    found = kdlight("decode", *words, tmp_path / "t", "--output", tmp_path / "o")
    assert (found.code, last_line(found.out)) == (2, tmp_path / "o")
    assert "1 of 2 files could not be done, the others were: " in found.err
    assert sorted(tree(tmp_path / "o")) == ["good.wav"]


def changed(path: Path, codes: Any = None, **facts: Any) -> None:
    """Tokens with other codes or facts, and a hash that fits."""
    if codes is not None:
        np.savez(path, codes=codes)
    description = json.loads(path.with_suffix(".json").read_text())
    description |= {"codes_sha256": sha256_of(path), **facts}
    path.with_suffix(".json").write_text(json.dumps(description))


DAMAGE = {
    "a byte": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "damaged"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:50]), "damaged"),
    "no archive": (lambda path: (path.write_bytes(b"x"), changed(path)), "expected an .npz"),
    "alone": (lambda path: path.with_suffix(".json").unlink(), "a.json: no such file"),
    "foreign": (lambda path: path.with_suffix(".json").write_text("[]"), "format: expected"),
    "out of range": (
        lambda path: changed(path, np.full((3, 25), 32)),
        "expected codes from 0 to 31, found 32 to 32",
    ),
    "negative": (lambda path: changed(path, np.full((3, 25), -1)), "found -1 to -1"),
    "another codebook": (
        lambda path: changed(path, np.full((3, 25), 32), codebook_size=64),
        "codebook_size: expected 32 of the codec, found 64",
    ),
    "too many levels": (
        lambda path: changed(path, np.zeros((4, 25), int), n_q=4),
        "n_q: expected at most 3, found 4",
    ),
    "few frames": (lambda path: changed(path, np.zeros((3, 24), int)), "expected codes (3, 25)"),
    "fractions": (lambda path: changed(path, np.zeros((3, 25))), "expected whole numbers"),
    "objects": (lambda path: changed(path, np.array([{}, None])), "expected an .npz with codes"),
    "no length": (lambda path: changed(path, samples=-1), "samples: expected a whole number"),
}  # fmt: skip


def test_bad_tokens_are_refused_in_a_sentence(kdlight: Run, tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path)
    _, other = saved(tmp_path, seed=1)
    source = write(tmp_path / "a.wav", voice(0.5))

    def refused(checkpoint: Path, *words: object) -> str:
        found = kdlight(
            "decode", "--checkpoint", checkpoint, tmp_path / "t", *words, "--output", tmp_path / "o"
        )
        assert (found.code, found.out) == (2, "")
        assert len(found.err.strip().splitlines()) == 1, found.err
        assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())
        return found.err

    for name, (damage, why) in DAMAGE.items():
        kdlight("encode", "--checkpoint", checkpoint, source, "--output", tmp_path / "t")
        damage(tmp_path / "t" / "a.npz")
        assert why in refused(checkpoint), name
        (tmp_path / "t" / "a.json").unlink(missing_ok=True)
    kdlight("encode", "--checkpoint", checkpoint, source, "--output", tmp_path / "t", "--n-q", 2)
    assert f"expected tokens of {other.name} (weights" in refused(other)
    assert "expected at least the 3 levels of --n-q, found 2" in refused(checkpoint, "--n-q", 3)


def test_running_again_replaces_and_a_failure_keeps_what_was_there(
    kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, checkpoint = saved(tmp_path)
    source = write(tmp_path / "a.wav", voice(0.5))
    words = ["--checkpoint", checkpoint, "--output", tmp_path / "t"]
    kdlight("encode", *words, source)
    assert kdlight("encode", *words, source, "--n-q", 1).code == 0
    assert torch.equal(read_tokens(tmp_path / "t" / "a.npz").codes, coded(codec, source, 1))
    assert kdlight("decode", *words, tmp_path / "t").code == 0
    first = (tmp_path / "t" / "a.wav").read_bytes()
    assert kdlight("decode", *words, tmp_path / "t").code == 0
    assert (tmp_path / "t" / "a.wav").read_bytes() == first
    before = tree(tmp_path / "t")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    found = kdlight("encode", *words, source)
    assert found.code == 1
    assert found.err.startswith("kdlight encode: failed: no space left on device")
    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    assert kdlight("decode", *words, tmp_path / "t").code == 1
    assert tree(tmp_path / "t") == before


def test_a_json_of_somebody_else_is_not_replaced(kdlight: Run, tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path)
    source = write(tmp_path / "a.wav", voice(0.5))
    (tmp_path / "a.json").write_text('{"speaker": "me"}')
    found = kdlight("encode", "--checkpoint", checkpoint, source, "--output", tmp_path)
    assert found.code == 2
    assert "a.json: expected a free name" in found.err
    assert json.loads((tmp_path / "a.json").read_text()) == {"speaker": "me"}
    assert not (tmp_path / "a.npz").exists()


BAD = {
    "encode": ["INPUT", "--help"],
    "encode DIR/no.wav --output DIR/t --checkpoint CODEC": ["no.wav: no such"],
    "encode DIR/empty --output DIR/t --checkpoint CODEC": ["expected audio files"],
    "encode DIR/twice --output DIR/t --checkpoint CODEC": ["becomes", "x.npz too"],
    "encode DIR/a.wav --output DIR/a.wav --checkpoint CODEC": ["expected a folder"],
    "encode DIR/a.wav --output DIR/t --checkpoint DIR/no.ckpt": ["no.ckpt: no such file"],
    "encode DIR/a.wav --output DIR/t --checkpoint DIR/a.wav": ["not a checkpoint of kdlight"],
    "encode DIR/a.wav --output DIR/t --checkpoint CODEC --n-q 4": [
        "--n-q: expected at most 3 levels, found 4"
    ],
    "encode DIR/a.wav --output DIR/t --checkpoint CODEC --n-q 0": ["above 0"],
    "encode DIR/a.wav --output DIR/t --checkpoint CODEC --model x": [
        "expected a codec called 'x'"
    ],
    "encode DIR/a.wav --output DIR/t --checkpoint CODEC --device tpu": ["tpu"],
    "decode DIR/empty --output DIR/t --checkpoint CODEC": ["token files (.npz)"],
    "decode DIR/a.wav --output DIR/t --checkpoint CODEC": ["a.json: no such file"],
    "decode DIR/a.wav --output DIR/t --checkpoint CODEC --format mp3": ["mp3"],
    "convert": ["FORMAT"],
    "convert opus DIR/a.wav DIR/t.safetensors": ["opus", "speechtokenizer"],
    "convert mimi DIR/a.wav DIR/t.safetensors": ["a.wav: expected a checkpoint of tensors"],
    "convert encodec DIR/a.wav DIR/t.safetensors": ["a.wav: expected a checkpoint of tensors"],
    "convert encodec DIR/no.pt DIR/t.safetensors": ["no.pt: no such file"],
    "convert encodec DIR/a.wav DIR/t.pt": ["t.pt: expected a name ending in .safetensors"],
    "export --checkpoint CODEC --output DIR/t --to mlx": ["mlx", "transformers"],
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_refused_and_nothing_is_written(
    words: str, kdlight: Run, tmp_path: Path
) -> None:
    saved(tmp_path)
    write(tmp_path / "a.wav", voice(0.5))
    write(tmp_path / "twice" / "x.wav", voice(0.5))
    write(tmp_path / "twice" / "x.flac", voice(0.5))
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    found = kdlight(
        *words.replace("CODEC", "DIR/causal0.safetensors").replace("DIR", str(tmp_path)).split()
    )
    assert (found.code, found.out) == (2, ""), found
    assert len(found.err.strip().splitlines()) == 1, found.err
    for word in BAD[words]:
        assert word in found.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("verb", ["encode", "decode", "convert"])
def test_help_has_an_example(verb: str, kdlight: Run) -> None:
    found = kdlight(verb, "--help")
    assert found.code == 0
    assert f"example:\n  python -m kdlight {verb} " in found.out
    assert f"\n  {verb} " in kdlight("--help").out


PEAK = "import sys; from kdlight.cli import main; from tests.memory import peak_bytes; \
code = main(sys.argv[1:]); print(peak_bytes() >> 20); sys.exit(code)"


def peak(*words: object) -> int:
    """Most memory that a command took, MiB."""
    command = [sys.executable, "-c", PEAK, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return int(found.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "frame_rate"])
def test_an_hour_takes_no_more_memory_than_a_minute(kind: str, tmp_path: Path) -> None:
    _, checkpoint = saved(tmp_path, kind)
    minute = voice(60.0)
    write(tmp_path / "short.wav", minute)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(minute.numpy())
    for verb, suffix in (("encode", ".wav"), ("decode", ".npz")):
        short, long = (
            peak(
                verb, "--checkpoint", checkpoint, tmp_path / f"{name}{suffix}",
                "--output", tmp_path / ("out" if verb == "decode" else "."), "--block-seconds", 20,
            )
            for name in ("short", "long")
        )  # fmt: skip
        # An hour of samples alone would be 220 MiB; its codes, and what is written of them, are not
        # much beside it.
        assert long - short < 110, (verb, short, long)
    assert soundfile.info(tmp_path / "out" / "long.wav").frames == 3600 * RATE
