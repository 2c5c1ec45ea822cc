"""No verb replaces what it was made of, or a run's record, unless it is told to."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import kdlight as package
from kdlight.storage.audio import write_audio
from tests.commands.tiny import Run

ASSETS = Path(package.__path__[0]) / "assets"
OLD = Path(__file__).parents[1] / "files_of_0_1_0"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A teacher, a codec with a recording and its tokens, and a run's folder."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(ASSETS / f"digits_teacher{suffix}", tmp_path / f"teacher{suffix}")
        shutil.copy(OLD / "codec" / f"codec{suffix}", tmp_path / f"codec{suffix}")
    run = tmp_path / "runs" / "a" / "version_0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: a\n")
    rows = [{"model": "student", "steps": 1, "frechet_features": 0.01}]
    (run / "summary.json").write_text(json.dumps(rows))
    (run / "run.json").write_text(json.dumps({"name": "a", "version": "version_0"}))
    (tmp_path / "llama").mkdir()
    for name in (
        "x.safetensors",
        "x.jsonl",
        "x.npz",
        "llama/config.json",
        "llama/model.safetensors",
    ):
        (tmp_path / name).write_text("x")
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "words",
    [
        "pairs --checkpoint teacher.safetensors --count 8 --steps 1 --output teacher.safetensors",
        "export --checkpoint teacher.safetensors --steps 4 --output teacher.safetensors",
        "evaluate images --checkpoint teacher.safetensors --data digits --output teacher.json",
        "evaluate images --checkpoint teacher.safetensors --data digits --output codec.json",
        "report runs/a/version_0 --json runs/a/version_0/summary.json",
        "report runs/a/version_0 --json runs/a/version_0/run.json",
        "convert encodec codec.safetensors codec.safetensors",
        "prune teacher.safetensors --calibration x.safetensors --keep mlp=6 --output x.safetensors",
        "prune llama --calibration x.safetensors --keep mlp=6 --output llama/model.safetensors",
        "generate --checkpoint teacher.safetensors --draft trigram --draft-texts x.jsonl "
        "--output x.jsonl",
        "evaluate statistics --samples x.npz --features inception --output x.npz",
    ],
)
def test_refused(words: str, place: Path, kdlight: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = contents(place)
    code, _, err = kdlight(*words.split())
    assert code == 2, err
    assert err.count("\n") == 1
    assert "--force replaces it" in err
    assert contents(place) == before


def test_force_is_consent(place: Path, kdlight: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words = (
        "pairs --checkpoint teacher.safetensors --count 8 --steps 1 --output teacher.safetensors"
    )
    assert kdlight(*words.split(), "--force").code == 0


def test_decode_leaves_the_originals(
    place: Path, kdlight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    write_audio(place / "tone.wav", 0.1 * torch.randn(1, 8000), 16_000)
    before = (place / "tone.wav").read_bytes()
    codec = ["--checkpoint", "codec.safetensors"]
    assert kdlight("encode", *codec, "tone.wav", "--output", ".").code == 0
    code, _, err = kdlight("decode", *codec, "tone.npz", "--output", ".")
    assert code == 2
    assert "found the audio that tone.npz was made of" in err
    assert (place / "tone.wav").read_bytes() == before
    for _ in range(2):  # what decode itself wrote it replaces
        assert kdlight("decode", *codec, "tone.npz", "--output", "decoded").code == 0


@pytest.mark.parametrize(
    ("option", "name", "text"),
    [
        ("--output", "notes.html", "<html>my notes</html>"),
        ("--json", "notes.json", '{"mine": 1}'),
        ("--json", "rows.json", "[]"),
        ("--json", "broken.json", "{"),
    ],
)
def test_report_replaces_only_what_it_wrote(
    option: str, name: str, text: str, place: Path, kdlight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / name).write_text(text)
    before = contents(place)
    words = ["report", "runs/a/version_0", option, name]
    code, _, err = kdlight(*words)
    assert code == 2
    assert err.count("\n") == 1
    assert f"{option} {name}" in err
    assert "--force replaces it" in err
    assert contents(place) == before
    assert kdlight(*words, "--force").code == 0
    assert (place / name).read_text() != text
    assert kdlight(*words).code == 0  # its own earlier file needs no consent
