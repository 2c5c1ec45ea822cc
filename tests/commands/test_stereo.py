"""Stereo files through a codec of two channels, and others through it too."""

from pathlib import Path

import soundfile
import torch

from kdlight.codec.foreign.files import read_transformers
from kdlight.storage.tokens import read_tokens
from tests.codec.foreign.models import RATE, saved
from tests.commands.tiny import Run


@torch.no_grad()
def test_stereo_files_stay_stereo(tmp_path: Path, kdlight: Run) -> None:
    folder = saved(tmp_path, "pieces")[1]
    codec = read_transformers(str(folder))
    generator = torch.Generator().manual_seed(0)
    for name, channels in (("mono", 1), ("stereo", 2), ("four", 4)):
        audio = 0.1 * torch.randn(1500, channels, generator=generator)
        soundfile.write(tmp_path / f"{name}.wav", audio.numpy(), RATE, "FLOAT")
    files = sorted(tmp_path.glob("*.wav"))
    tokens, decoded = tmp_path / "tokens", tmp_path / "decoded"
    found = kdlight("encode", *files, "--codec", folder, "--output", tokens, "--batch-size", 4)
    assert found.code == 0, found.err
    found = kdlight("decode", tokens, "--codec", folder, "--output", decoded)
    assert found.code == 0, found.err
    for name, channels in (("mono", 1), ("stereo", 2), ("four", 1)):
        assert soundfile.info(decoded / f"{name}.wav").channels == channels
        assert read_tokens(tokens / f"{name}.npz").facts.channels == channels
    samples = torch.from_numpy(soundfile.read(tmp_path / "stereo.wav", dtype="float32")[0].T)[None]
    assert torch.equal(read_tokens(tokens / "stereo.npz").codes, codec.encode(samples)[0])
    heard = torch.from_numpy(soundfile.read(decoded / "stereo.wav", dtype="float32")[0].T)
    expected = codec.decode_channels(codec.encode(samples), codec.scales(samples))[0, :, :1500]
    torch.testing.assert_close(heard, expected.clamp(-1, 1), atol=1e-4, rtol=0)
