"""Every verb as it is meant to be used, and what it leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from datamodules.images.pairs import PairsDataModule
from kdlight.cli import GROUPS, VERBS
from kdlight.report.runs import load_run
from kdlight.teachers.diffusion import ASSETS, bundled_teacher
from tests.commands.tiny import TINY, Run, assert_same_weights, last_line, tree

LIGHTNING = ["fit", "validate", "test", "predict"]
OURS = ["sample", "generate", "evaluate", "pairs", "prune", "score", "select", "export"]
OURS += ["report", "list", "search", "encode", "decode", "convert", "convert-voice"]


@pytest.mark.parametrize("verb", LIGHTNING + OURS)
def test_help_shows_an_example(verb: str, kdlight: Run) -> None:
    code, out, _ = kdlight(verb, "--help")
    assert code == 0
    example = out.partition("example:\n")[2].split()
    assert example[:3] == ["python", "-m", "kdlight"]
    assert example[3] == verb


def test_help_names_defaults_once(kdlight: Run) -> None:
    text = " ".join(kdlight("sample", "--help").out.split())
    assert "how many (default: 100)" in text
    assert "default: None" not in text
    assert "(default: wav)" not in " ".join(kdlight("decode", "--help").out.split())


@pytest.mark.parametrize("verb", LIGHTNING)
def test_help_begins_with_our_own_options_and_ends_with_the_trainers(
    verb: str, kdlight: Run
) -> None:
    out = kdlight(verb, "--help").out
    assert out.startswith(f"usage: python -m kdlight {verb} --config FILE")
    own = ["--name", "--ckpt_path", "--model CONFIG", "--data CONFIG"]
    places = [out.index(f"\n  {option}") for option in own]
    trainer = out.index("\nLightning's trainer (")
    assert places == sorted(places)
    assert places[-1] < trainer
    assert out.index("--trainer.accelerator ") > trainer
    assert "registry" not in out[:trainer]
    assert "ProgressiveDistillation" in out[:trainer]
    assert "--trainer.max_time" not in out
    assert len(out.splitlines()) < 200  # of which some are names of methods


def test_help_all_shows_all_of_the_trainer(kdlight: Run) -> None:
    found = kdlight("fit", "--help_all")
    assert found.code == 0
    assert "\n  --trainer.max_time " in found.out
    assert found.out.index("\n  --name") < found.out.index("\nLightning's trainer")


def test_usage_groups_the_verbs(kdlight: Run) -> None:
    assert sorted(verb for verbs in GROUPS.values() for verb in verbs) == sorted(VERBS)
    out = kdlight("--help").out
    places = [out.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", OURS)
def test_help_fits_the_screen(verb: str, kdlight: Run) -> None:
    text = kdlight(verb, "--help").out.partition("example:")[0]
    assert max(map(len, text.splitlines())) <= 100


def test_usage_without_a_verb(kdlight: Run) -> None:
    assert kdlight().code == 2
    code, out, _ = kdlight("--help")
    assert code == 0
    assert all(f"\n  {verb} " in out for verb in LIGHTNING + OURS)


def test_a_run_leaves_its_record(run_folder: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    expected = {"config.yaml", "metrics.csv", "run.json", "summary.json", "report.html"}
    assert expected | {"checkpoints", "samples"} <= names
    facts = json.loads((run_folder / "run.json").read_text())
    assert facts["iterations"] == 20
    assert facts["name"] == "tiny"
    assert facts["teacher"]["source"] == "bundled: digits_teacher"
    rows = json.loads((run_folder / "summary.json").read_text())
    assert [(row["model"], row["steps"]) for row in rows][-2:] == [("student", 2), ("student", 1)]
    logged = load_run(run_folder).logged
    assert [x for x, _ in logged["val/frechet_features"]] == [7, 14, 20]
    assert logged["val/updates"] == [(7, 7), (14, 14), (20, 20)]


def test_the_configuration_of_a_run_runs_again(
    run_folder: Path, checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    code, out, _ = kdlight("fit", "--config", run_folder / "config.yaml", "--runs_dir", tmp_path)
    assert code == 0
    again = tmp_path / "tiny" / "version_0"
    assert last_line(out) == again / "report.html"
    assert (again / "report.html").is_file()
    assert_same_weights(checkpoint, again / "checkpoints" / "last.ckpt")
    old, new = ((folder / "config.yaml").read_text() for folder in (run_folder, again))
    assert yaml.safe_load(old) | {"runs_dir": str(tmp_path)} == yaml.safe_load(new)


def test_measuring_verbs_print_rows_and_a_path(
    run_folder: Path, checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    before = tree(run_folder)
    words = ["--config", run_folder / "config.yaml", "--runs_dir", tmp_path]
    code, out, _ = kdlight("test", *words, "--ckpt_path", checkpoint)
    assert code == 0
    assert "student" in out
    summary = tmp_path / "tiny" / "test_0" / "summary.json"
    assert last_line(out) == summary
    rows, trained = (json.loads(path.read_text()) for path in (summary, run_folder / summary.name))
    assert rows == trained, "test measures what fit measured at its end"

    code, out, _ = kdlight("validate", *words, "--ckpt_path", checkpoint)
    assert code == 0
    assert "student" in out
    (row,) = json.loads(last_line(out).read_text())
    assert row["model"] == "student"
    assert row["steps"] == 1
    assert row["variance"] > 0
    assert tree(run_folder) == before


def test_predictions_can_be_evaluated(
    run_folder: Path, checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    words = ["--config", run_folder / "config.yaml", "--runs_dir", tmp_path]
    code, out, _ = kdlight("predict", *words, "--ckpt_path", checkpoint)
    assert code == 0
    path = last_line(out)
    made = torch.load(path, weights_only=True)
    assert made["image"].shape == (360, 1, 8, 8)
    assert made["label"].shape == (360,)
    figures = tmp_path / "figures.json"
    judge = ["--data", "digits", "--classifier", "digits_classifier", "--output", figures]
    code, out, _ = kdlight("evaluate", "images", "--samples", path, *judge)
    assert (code, last_line(out)) == (0, figures)
    (row,) = json.loads(figures.read_text())
    assert row["model"] == "predictions"
    assert 0 <= row["accuracy"] <= 1
    assert row["frechet_features"] > 0


FORGETTING = ("accuracy_forgotten", "accuracy_retained", "frechet_features_retained")


def test_forgotten_classes_are_measured_apart(
    checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    digits = load_digits()
    images = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None]
    label = torch.tensor(digits.target)
    real = torch.where(label == 3, 5, label)  # a five where a three is asked for
    shown = images[torch.stack([(label == digit).nonzero()[0, 0] for digit in real])]
    shown[label != 3] = images[label != 3]
    torch.save({"image": shown, "label": label}, tmp_path / "unlearned.pt")
    figures = tmp_path / "figures.json"
    words = ["--data", "digits", "--classifier", "digits_classifier", "--forgotten", 3]
    words += ["--output", figures]
    given = ["--samples", tmp_path / "unlearned.pt"]
    assert kdlight("evaluate", "images", *given, *words).code == 0
    (row,) = json.loads(figures.read_text())
    assert row["accuracy_forgotten"] == 0.0
    assert row["accuracy_retained"] > 0.99
    assert row["frechet_pixels_retained"] < row["frechet_pixels_retained_floor"]
    assert 0 <= row["frechet_features_retained"] < row["frechet_features"]
    words += ["--checkpoint", checkpoint, "--num-samples", 40]
    assert kdlight("evaluate", "images", *words).code == 0
    (row,) = json.loads(figures.read_text())
    assert set(FORGETTING) <= set(row)


def test_a_run_measures_forgotten_classes(kdlight: Run, tmp_path: Path) -> None:
    config = yaml.safe_load(TINY.read_text())
    (callback,) = config["trainer"]["callbacks"]
    callback["init_args"]["forgotten"] = [3, 7]
    config["model"]["init_args"]["round_iterations"] = 1
    path = tmp_path / "forget.yaml"
    path.write_text(yaml.safe_dump(config))
    code, _, err = kdlight("fit", "--config", path, "--runs_dir", tmp_path)
    assert code == 0, err
    rows = json.loads((tmp_path / "tiny" / "version_0" / "summary.json").read_text())
    assert all(set(FORGETTING) <= set(row) for row in rows)
    assert rows[0]["accuracy_forgotten"] > 0.8, "the teacher has forgotten nothing"


@pytest.mark.parametrize("name", ["grid.png", "walk.GIF", "tensor.pt", "ARRAY.NPZ"])
def test_samples_in_every_format(name: str, checkpoint: Path, kdlight: Run, tmp_path: Path) -> None:
    path = tmp_path / "new" / name
    words = ["--checkpoint", checkpoint, "--num-samples", 12, "--label", 3, "--steps", 2]
    code, out, _ = kdlight("sample", *words, "--output", path)
    assert (code, last_line(out)) == (0, path)
    assert [file.name for file in path.parent.iterdir()] == [name]
    if path.suffix in (".png", ".GIF"):
        with Image.open(path) as picture:
            picture.load()
            assert getattr(picture, "n_frames", 1) == (3 if path.suffix == ".GIF" else 1)
        return
    code, _, _ = kdlight("evaluate", "images", "--samples", path, "--data", "digits")
    assert code == 0


def test_evaluate_a_checkpoint_at_several_steps(
    checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    words = ["--checkpoint", checkpoint, "--data", "digits", "--steps", 1, 2, "--num-samples", 40]
    code, out, _ = kdlight("evaluate", "images", *words, "--output", figures)
    assert (code, last_line(out)) == (0, figures)
    assert [row["steps"] for row in json.loads(figures.read_text())] == [1, 2]


def test_pairs_are_what_their_data_module_reads(kdlight: Run, tmp_path: Path) -> None:
    path, teacher = tmp_path / "new" / "pairs.safetensors", ASSETS / "digits_teacher.safetensors"
    words = ["--checkpoint", teacher, "--count", 12, "--steps", 2, "--seed", 3, "--out", path]
    code, out, _ = kdlight("pairs", *words)
    assert (code, last_line(out)) == (0, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    own = bundled_teacher("digits_teacher")
    data = PairsDataModule(own, 12, 2, str(path), pairs_seed=3)
    assert data.pairs["image"].shape == (12, 1, 8, 8)


def test_export_and_report_print_their_path_last(
    run_folder: Path, kdlight: Run, tmp_path: Path
) -> None:
    path = tmp_path / "student.safetensors"
    code, out, _ = kdlight("export", "--run", run_folder, "--steps", 1, "--output", path)
    assert (code, last_line(out)) == (0, path)
    code, out, _ = kdlight("sample", "--checkpoint", path, "--output", tmp_path / "grid.png")
    assert code == 0
    page = tmp_path / "page.html"
    code, out, _ = kdlight("report", run_folder, "--output", page)
    assert (code, last_line(out)) == (0, page)
    assert page.is_file()


def test_several_runs_leave_the_first_ones_page(
    run_folder: Path, kdlight: Run, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(run_folder, folder)
    before = (first / "report.html").read_bytes()
    code, out, _ = kdlight("report", first, second)
    assert (code, last_line(out)) == (0, first / "comparison.html")
    assert (first / "report.html").read_bytes() == before
    code, out, _ = kdlight("report", first)
    assert (code, last_line(out)) == (0, first / "report.html")


def test_print_config_writes_nothing(kdlight: Run, tmp_path: Path) -> None:
    code, out, _ = kdlight("fit", "--config", TINY, "--runs_dir", tmp_path, "--print_config")
    assert code == 0
    assert yaml.safe_load(out)["model"]["init_args"]["teacher_steps"] == 4
    assert not list(tmp_path.iterdir())


def test_the_version_says_what_it_runs_on(kdlight: Run) -> None:
    out = kdlight("--version").out
    assert out.startswith("kdlight 0.")
    assert f"torch {torch.__version__.partition('+')[0]}" in out


def test_the_console_script_finds_packages_in_this_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kdlight import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.sys, "path", ["first"])
    monkeypatch.setattr(cli.sys, "argv", ["kdlight", "--version"])
    assert cli.script() == 0
    assert cli.sys.path == ["first", str(tmp_path)]


def test_the_newest_checkpoint_is_a_whole_one(tmp_path: Path) -> None:
    from kdlight.commands.shared.folders import newest_checkpoint

    for version, age in (("version_0", 30), ("version_1", 10), ("version_2", 20)):
        folder = tmp_path / version / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
        os.utime(folder / "last.ckpt", (1000 - age, 1000 - age))
        # What a writer leaves that is killed between opening its file and renaming it.
        (folder / ".last.ckpt.half.ckpt").touch()
    (tmp_path / "version_3").mkdir()
    found = newest_checkpoint(tmp_path, "here")
    assert found == tmp_path / "version_1" / "checkpoints" / "last.ckpt"


def test_a_run_of_a_taken_name_gets_the_next_version(tmp_path: Path) -> None:
    from kdlight.commands.shared.folders import give_back, next_folder, take_folder

    parent = tmp_path / "runs" / "name"
    (parent / "version_7").mkdir(parents=True)
    (parent / "version_x").mkdir()
    assert take_folder(parent, "version").name == "version_8"
    assert next_folder(parent, "version").name == "version_9"
    assert take_folder(parent, "test").name == "test_0"
    give_back(parent / "version_8")
    assert next_folder(parent, "version").name == "version_8"


def test_verbs_that_do_not_train_start_without_what_trains() -> None:
    """Lightning, and torch's compiler that torchvision brings, take twice as long as all else."""
    verbs = ("sample", "encode", "decode", "convert-voice", "generate", "export", "report")
    imports = "; ".join(f"import {VERBS[verb][0]}" for verb in verbs)
    asked = f"import sys; {imports}; print({{'lightning', 'torch._dynamo'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
