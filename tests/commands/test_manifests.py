"""Manifests and batches of ``encode`` and ``evaluate codec``."""

import json
from pathlib import Path

import pytest
import soundfile
import torch

from kdlight.codec.codec import Codec
from kdlight.storage.audio import read_audio
from kdlight.storage.tokens import read_tokens
from tests.commands.codecs import KINDS, RATE, assert_same_codes, saved
from tests.commands.tiny import Run
from tests.metrics.speech.signals import voice


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three parts of two files, with transcripts."""
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", voice(1.5, seed=ord(name)).numpy(), RATE)
    rows = [
        {"audio": "a.wav", "start": 0.25, "end": 1.0, "transcript": "one"},
        {"audio": "a.wav", "start": 1.0, "id": "spk.1/rest", "transcript": "two"},
        {"audio": "b.wav", "transcript": "three"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_encode_takes_the_parts_that_a_manifest_names(
    kdlight: Run, tmp_path: Path, manifest: Path
) -> None:
    codec, checkpoint = saved(tmp_path)
    out = tmp_path / "t"
    for block in (60, 1):
        found = kdlight(
            "encode", "--checkpoint", checkpoint, manifest, "--output", out,
            "--block-seconds", block,
        )  # fmt: skip
        assert found.code == 0, found.err
        for name, file, start, stop in (
            ("a_0.250-1.000", "a.wav", 4000, 16000),
            ("spk.1/rest", "a.wav", 16000, 24000),
            ("b", "b.wav", 0, 24000),
        ):
            audio = read_audio(tmp_path / file)[:, start:stop]
            tokens = read_tokens(out / f"{name}.npz")
            assert_same_codes(codec, audio, tokens.codes)
            assert (tokens.facts.samples, tokens.facts.source) == (stop - start, file)
    manifest.write_text('{"audio": "a.wav", "start": 9}')
    found = kdlight("encode", "--checkpoint", checkpoint, manifest, "--output", tmp_path / "n")
    assert (found.code, found.out) == (2, "")
    assert "m.jsonl: line 1: expected a start before an end in the 1.5 s of a.wav" in found.err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_do_not_depend_on_what_shares_their_batch(
    kind: str, kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, checkpoint = saved(tmp_path, kind)
    lengths = (32000, 20000, 32000, 19990, 32000, 32001, 32000)
    for index, length in enumerate(lengths):
        soundfile.write(tmp_path / f"{index}.wav", voice(2.1, seed=index)[:length].numpy(), RATE)
    (tmp_path / "no.wav").write_text("no audio")
    batches = []
    encode = Codec.encode

    def counted(self: Codec, audio: torch.Tensor, n_q: int | None = None) -> torch.Tensor:
        batches.append(len(audio))
        return encode(self, audio, n_q)

    monkeypatch.setattr(Codec, "encode", counted)
    found = kdlight(
        "encode", "--checkpoint", checkpoint, tmp_path, "--output", tmp_path / "t",
        "--batch-size", 3,
    )  # fmt: skip
    assert found.code == 2
    assert "1 of 8 files could not be done, the others were: " in found.err
    # 19990 and 20000 samples are 63 frames: one length where frames are filled up.
    alone = kind == "both_ways"
    assert sorted(batches) == ([1, 1, 1, 1, 3] if alone else [1, 1, 2, 3])
    monkeypatch.undo()
    for index in range(len(lengths)):
        audio = read_audio(tmp_path / f"{index}.wav")
        assert_same_codes(codec, audio, read_tokens(tmp_path / "t" / f"{index}.npz").codes)


def test_a_manifest_is_a_reference(kdlight: Run, tmp_path: Path, manifest: Path) -> None:
    _, checkpoint = saved(tmp_path)
    found = kdlight(
        "evaluate", "codec", "--codec", checkpoint, "--reference", manifest,
        "--metrics", "si_sdr", "--jsonl", tmp_path / "rows.jsonl",
    )  # fmt: skip
    assert found.code == 0, found.err
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["utterance"] for row in rows] == ["a_0.250-1.000", "spk.1/rest", "b"]
    assert [row["seconds"] for row in rows] == pytest.approx([0.75, 0.5, 1.5])
    manifest.write_text(manifest.read_text() + '\n{"audio": "b.wav", "end": 1}')
    found = kdlight("evaluate", "codec", "--codec", checkpoint, "--reference", manifest)
    assert found.code == 2
    assert "expected a transcript in every row or in none, found 1 of 4 rows without" in found.err
    manifest.write_text('{"audio": "b.wav", "end": 1}')
    found = kdlight(
        "evaluate", "codec", "--codec", checkpoint, "--reference", manifest, "--metrics", "wer"
    )
    assert "--metrics wer: expected --transcripts, or a manifest that has them" in found.err
