"""Every configuration parses, builds and trains a few iterations, made small, on one CPU."""

import importlib
import pkgutil
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import kdlight.callbacks
from kdlight.cli import main
from kdlight.core.spec import build
from kdlight.storage.files import load_checkpoint
from kdlight.storage.yaml_text import load_yaml
from tests.commands.tiny import TINY, last_line
from tests.datamodules.images.latent_archives import latent_zip
from tests.small_recipes import (
    CONFIGS,
    COPY,
    DATA,
    EXPORTED,
    MODEL,
    OUT_OF_REACH,
    PACKAGES,
    RUNS,
    SLOW,
    SMALLER,
    TEACHERS,
)
from tests.teachers.published.released import released
from tests.teachers.published.vae import vae_folder


@cache
def settings(name: str) -> dict[str, Any]:
    """A configuration as it is; not to be changed."""
    found: dict[str, Any] = load_yaml((CONFIGS / name).read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of random pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    source = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for index in range(10):
            pixels = source.integers(0, 256, (70, 66, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, twice half a second of noise of each."""
    folder = tmp_path_factory.mktemp("speech")
    source = np.random.default_rng(0)
    for speaker in ("anna", "ben"):
        (folder / speaker).mkdir()
        for name in ("1.wav", "2.wav"):
            samples = 0.1 * source.standard_normal(8000)
            soundfile.write(folder / speaker / name, samples, 16000)
    return folder


def class_paths(config: Any) -> set[str]:
    """All that a configuration names by class path."""
    if isinstance(config, list):
        return set().union(*map(class_paths, config))
    if not isinstance(config, dict):
        return set()
    own = {config["class_path"]} if "class_path" in config else set()
    return own.union(*map(class_paths, config.values()))


def shrunk(name: str, runs: Path, pictures: Path, speech: Path) -> list[str]:
    """Command line of a small run of a configuration, trained to its own end."""
    config = settings(name)
    arguments = config["model"]["init_args"]
    lengths = ("round_iterations", "stage_iterations")
    length = next((key for key in lengths if key in arguments), "iterations")
    given = arguments.get(length)
    short = str([1] * len(given)) if isinstance(given, list) else "1"
    options = {
        "--runs_dir": str(runs),
        "--threads": "1",
        f"--model.init_args.{length}": "2" if length == "iterations" else short,
        "--data.init_args.batch_size": "4",
        "--trainer.accelerator": "cpu",
        "--trainer.devices": "1",
        "--trainer.logger": "false",
    } | SMALLER.get(name, {})
    if "data_dir" in config["data"]["init_args"]:
        spoken = "speech" in config["data"]["class_path"]
        options["--data.init_args.data_dir"] = str(speech if spoken else pictures)
    if "data_dir" in config["data"]["init_args"].get("data", {}).get("init_args", {}):
        options[DATA + "data.init_args.data_dir"] = str(pictures)
    if config["data"]["class_path"] == "datamodules.images.latent_files.LatentFilesDataModule":
        options[DATA + "path"] = str(latent_zip(runs / "img512-sd.zip"))
    if config["data"]["class_path"] == "datamodules.text.text_files.TextFilesDataModule":
        options["--data.init_args.path"] = str(CONFIGS.parent / "README.md")
    if config["data"]["class_path"].endswith(".SyntheticSpeechDataModule"):
        if not (shutil.which("espeak-ng") or find_spec("piper")):
            pytest.skip("neither espeak-ng nor piper-tts is installed")
        options[DATA + "cache"] = str(runs / "spoken")
    if "student_every" in arguments:
        # Or the student would have no turn in so few batches.
        options["--model.init_args.student_every"] = "1"
    if config["data"]["class_path"] == "datamodules.images.pairs.PairsDataModule":
        options |= {
            "--data.init_args.count": "8",
            "--data.init_args.folder": str(runs / "pairs"),
        }
    for option, path in trained_before(config["model"], "--model."):
        options[option] = str(train_teacher(path, runs, pictures, speech))
    for option, path in trained_before(config["data"], "--data."):
        options[option] = str(train_teacher(path, runs, pictures, speech))
    teacher = arguments.get("teacher", {})
    if "published" in teacher.get("class_path", ""):
        made = released(teacher["init_args"]["path"], runs)
        options["--model.init_args.teacher.init_args.path"] = str(made)
        if "autoencoder" in teacher["init_args"]:
            options[MODEL + "teacher.init_args.autoencoder"] = vae_folder(runs / "vae")
    start = (arguments.get("student") or {}).get("init_args", {}).get("teacher", {})
    if "published" in start.get("class_path", ""):
        made = released(start["init_args"]["path"], runs)
        options["--model.init_args.student.init_args.teacher.init_args.path"] = str(made)
    words = ["fit", "--config", str(CONFIGS / name)]
    return words + [word for pair in options.items() for word in pair]


def trained_before(config: Any, option: str) -> Iterator[tuple[str, str]]:
    """Options that name checkpoints of other runs, and those checkpoints."""
    if not isinstance(config, dict):
        return
    if config.get("class_path") in TEACHERS:
        yield option + "init_args.checkpoint", config["init_args"]["checkpoint"]
    for key, value in config.items():
        yield from trained_before(value, f"{option}{key}.")


def train_teacher(path: str, runs: Path, pictures: Path, speech: Path) -> Path:
    """Checkpoint of a small run of the configuration whose run ``path`` speaks of."""
    run = Path(path).parts[1]
    made = runs / run / "version_0" / "checkpoints" / "last.ckpt"
    if not made.is_file():
        (name,) = (name for name in RUNS if settings(name).get("name") == run)
        assert main(shrunk(name, runs, pictures, speech)) == 0
    return made


@cache
def reports() -> list[str]:
    """Class paths of the callbacks that measure."""
    paths = []
    for found in pkgutil.walk_packages(kdlight.callbacks.__path__, "kdlight.callbacks."):
        for name, each in vars(importlib.import_module(found.name)).items():
            if getattr(each, "__module__", "") == found.name and name.endswith(MEASURING):
                paths.append(f"{found.name}.{name}")
    return paths


MEASURING = ("Report", "Probe", "Files")


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # The callback is built as configured; thousands of samples are another test's business.
    for callback in reports():
        for hook in ("on_validation_epoch_end", "on_train_end"):
            monkeypatch.setattr(f"{callback}.{hook}", lambda *_: None, raising=False)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith(SLOW) else name
        for name in RUNS
    ],
)
def test_a_configuration_trains(
    name: str,
    runs: Path,
    pictures: Path,
    speech: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(runs)  # where features are kept
    config = settings(name)
    named = class_paths(config)
    reasons = {OUT_OF_REACH[path] for path in named if path in OUT_OF_REACH} | {
        f"{PACKAGES[path]} is not installed"
        for path in named
        if path in PACKAGES and find_spec(PACKAGES[path]) is None
    }
    if reasons:
        assert main(["fit", "--config", str(CONFIGS / name), "--print_config"]) == 0
        parsed = load_yaml(capsys.readouterr().out)
        assert class_paths(parsed) >= class_paths(config)
        for part in ("denoiser", "student", "codec"):
            given = config["model"]["init_args"].get(part) or {}
            if "class_path" in given and not class_paths(given) & {COPY, *OUT_OF_REACH}:
                build(given)
        pytest.skip(f"parsed and built, no step: {', '.join(sorted(reasons))}")
    assert main(shrunk(name, runs, pictures, speech)) == 0
    folder = last_line(capsys.readouterr().out).parent
    state = load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    assert state["_extra_state"]["iteration"] >= 1
    assert state["_extra_state"]["non_finite_total"] == 0
    assert folder.parent.name == config["name"]
    if name in EXPORTED:
        words = ["export", "--checkpoint", str(folder / "checkpoints" / "last.ckpt")]
        assert main([*words, "--steps", "1", "--output", str(folder / "pipeline")]) == 0


@pytest.mark.parametrize("name", [name for name in RUNS if name.startswith(SLOW)])
def test_a_configuration_is_parsed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(CONFIGS / name), "--print_config"]) == 0
    parsed = load_yaml(capsys.readouterr().out)
    assert class_paths(parsed) >= class_paths(settings(name))


@pytest.mark.parametrize("name", RUNS)
def test_the_first_line_says_what_it_is(name: str) -> None:
    first = (CONFIGS / name).read_text().partition("\n")[0]
    assert first.startswith("# ")
    assert len(first) > 20


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "base").glob("*.yaml")))
def test_a_base_can_be_appended_to_a_run(
    name: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "--config", str(TINY), "--config", str(CONFIGS / "base" / name)]
    assert main([*words, "--print_config"]) == 0
    parsed = load_yaml(capsys.readouterr().out)
    base = load_yaml((CONFIGS / "base" / name).read_text())
    if isinstance(base["trainer"].get("strategy"), dict):
        base["trainer"]["strategy"]["init_args"] = parsed["trainer"]["strategy"]["init_args"]
    assert parsed["trainer"] | base["trainer"] == parsed["trainer"]
    assert parsed["trainer"]["callbacks"], "the run keeps its own callbacks"
    if "strategy" in base["trainer"]:
        pytest.skip("parsed; its step takes several processes: tests/commands/test_processes.py")
    # The same precision on this machine's CPU.
    words += ["--runs_dir", str(runs), "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    assert main([*words, "--model.init_args.round_iterations", "1"]) == 0


@pytest.mark.parametrize("name", ["sid", "sida"])
@pytest.mark.parametrize(
    ("data", "numbers"), [("imagenet64", 3 * 64 * 64), ("imagenet512", 4 * 64 * 64)]
)
def test_adams_epsilon_stands_beside_means_as_the_publishers_beside_sums(
    name: str, data: str, numbers: int
) -> None:
    config = load_yaml((CONFIGS / f"{data}/{name}.yaml").read_text())
    arguments = config["model"]["init_args"]
    assert arguments["optimizer"]["eps"] * numbers * 100 == pytest.approx(1e-6, rel=1e-3)
    assert arguments["fake_optimizer"]["eps"] * numbers == pytest.approx(1e-6, rel=1e-3)
