"""``decode`` of codes that another program made."""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch

from tests.commands.codecs import RATE, saved
from tests.commands.tiny import Run, last_line, tree
from tests.metrics.speech.signals import voice


def test_codes_of_other_programs_are_decoded_where_the_codec_is_named(
    kdlight: Run, tmp_path: Path
) -> None:
    codec, checkpoint = saved(tmp_path)
    folder = tmp_path / "t"
    source = tmp_path / "own.wav"
    soundfile.write(source, voice(0.5).numpy(), RATE)
    kdlight("encode", "--codec", checkpoint, source, "--output", folder)
    codes = torch.randint(32, (3, 40))
    np.save(folder / "made.npy", codes.numpy())
    lines = [{"id": "x", "codes": codes[:2].tolist()}, {"id": "y", "codes": codes.tolist()}]
    (folder / "lm.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["--codec", checkpoint, folder, "--output", tmp_path / "o"]
    found = kdlight("decode", *words, "--n-q", 2)
    assert (found.code, last_line(found.out)) == (0, tmp_path / "o"), found.err
    made = [name for name in sorted(tree(tmp_path / "o")) if name.endswith(".wav")]
    assert made == ["lm/x.wav", "lm/y.wav", "made.wav", "own.wav"]
    expected = codec.decode(codes[None, :2])[0, 0].clamp(-1, 1)
    for name in ("made", "lm/x", "lm/y"):
        heard, _ = soundfile.read(tmp_path / "o" / f"{name}.wav", dtype="float32")
        np.testing.assert_allclose(heard, expected, rtol=0, atol=1 / 32768)
    assert soundfile.info(tmp_path / "o" / "own.wav").frames == RATE // 2
    # Whose tokens they are is asked for where they say it, and --checkpoint takes no others.
    _, other = saved(tmp_path, seed=1)
    found = kdlight("decode", "--codec", other, folder / "own.npz", "--output", tmp_path / "p")
    assert "expected tokens of" in found.err
    found = kdlight("decode", "--checkpoint", checkpoint, folder / "made.npy", "--output", "p")
    assert "made.json: no such file" in found.err
    # One bad line, and nothing of its file is written.
    (folder / "lm.jsonl").write_text("\n".join(map(json.dumps, [*lines, [[32]]])))
    found = kdlight(
        "decode", "--codec", checkpoint, folder / "lm.jsonl", "--output", tmp_path / "q"
    )
    assert (found.code, found.out) == (2, "")
    assert "lm.jsonl: line 3: expected numbers from 0 to 31, found 32 at level 1" in found.err
    assert not (tmp_path / "q").exists()
