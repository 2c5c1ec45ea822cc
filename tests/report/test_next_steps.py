"""What a page says to do next can be done, word for word."""

import json
import shlex
from pathlib import Path

import pytest

from kdlight.cli import main
from kdlight.commands import (
    convert_voice,
    decode,
    encode,
    evaluate,
    evaluate_codec,
    evaluate_language,
    export,
    generate,
    sample,
)
from kdlight.report.next_steps import EVALUATED, next_steps
from kdlight.report.runs import load_run

DIGITS = """data: {class_path: datamodules.images.digits.DigitsDataModule}
trainer:
  callbacks:
  - {class_path: A}
  - {class_path: B, init_args: {classifier: digits_classifier}}
"""
PARSERS = {
    "sample": sample.parser,
    "evaluate images": evaluate.parser,
    "evaluate codec": evaluate_codec.parser,
    "evaluate language": evaluate_language.parser,
    "generate": generate.parser,
    "export": export.parser,
    "encode": encode.parser,
    "decode": decode.parser,
    "convert-voice": convert_voice.parser,
}


def commands(folder: Path) -> list[str]:
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    return [step.command for step in next_steps(load_run(folder))]


def check_options(command: str) -> None:
    """Let the verb's own parser read the command."""
    words = shlex.split(command.removeprefix("python -m kdlight "))
    verb = " ".join(words[: 2 if words[0] == "evaluate" else 1])
    if verb != "test":
        PARSERS[verb]().parse_args(words[len(verb.split()) :])


def test_commands_of_a_generator(make_run, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    folder = make_run()
    (folder / "config.yaml").write_text(DIGITS)
    found = commands(folder)
    source = "--checkpoint runs/quickstart/version_0/checkpoints/last.ckpt"
    assert found[:3] == [
        f"python -m kdlight sample {source} --steps 1 --num-samples 100 --output quickstart.png",
        f"python -m kdlight evaluate images {source} --data digits --classifier digits_classifier "
        "--steps 1 2 4 --num-samples 5000 --seed 1",
        f"python -m kdlight export {source} --steps 1 --output quickstart.safetensors",
    ]
    assert found[3].startswith("python -m kdlight test --config runs/quickstart/version_0/config")
    for command in found:
        check_options(command)


def test_data_without_a_name_are_measured_by_the_run_alone(make_run):
    folder = make_run("own")
    (folder / "config.yaml").write_text("data: {class_path: mine.Pictures}\n")
    assert [command.split()[3] for command in commands(folder)] == ["sample", "export", "test"]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("{data_dir: my/pictures}", "--data my/pictures --steps 1 2 4"),
        ("{data_dir: my/scans, bit_depth: 12}", "--data my/scans --bit-depth 12 --steps 1 2 4"),
        ("{data_dir: my/pictures, labels: classes.csv}", None),  # which the verb does not read
    ],
)
def test_pictures_of_a_folder_are_measured_there(make_run, arguments, options):
    folder = make_run()
    module = "datamodules.images.image_folder.ImageFolderDataModule"
    (folder / "config.yaml").write_text(
        f"data: {{class_path: {module}, init_args: {arguments}}}\n"
        "trainer: {callbacks: [{class_path: A}]}\n"
    )
    found = [command for command in commands(folder) if " evaluate " in command]
    assert [options in command for command in found] == ([] if options is None else [True])
    for command in found:
        check_options(command)


def test_data_sets_have_the_names_of_the_verb():
    assert set(EVALUATED.values()) <= set(evaluate.DATA)


def test_a_run_elsewhere_names_no_path_of_the_machine(make_run, tmp_path: Path):
    for command in commands(make_run()):
        assert str(tmp_path) not in command
        assert "runs/quickstart/version_0" in command


def test_nothing_to_do_without_a_checkpoint_or_figures(make_run):
    folder = make_run()
    assert next_steps(load_run(folder)) == []
    (folder / "summary.json").unlink()
    assert commands(folder) == []


def test_commands_of_a_codec(make_codec_run):
    found = commands(make_codec_run())
    verbs = [command.split()[3] for command in found]
    assert verbs == ["encode", "decode", "evaluate", "export", "test"]
    for command in found:
        check_options(command)


def test_commands_of_a_model_that_writes(make_run):
    folder = make_run("own")
    row = {"model": "student", "steps": 4, "nfe": 4, "entropy": 2.0, "tokens_per_second": 9.0}
    (folder / "summary.json").write_text(json.dumps([row]))
    found = commands(folder)
    assert [command.split()[3] for command in found] == ["generate", "evaluate", "export", "test"]
    for command in found:
        check_options(command)


def test_commands_of_an_encoder_of_syllables(make_run):
    folder = make_run("own")
    (folder / "summary.json").write_text(json.dumps([{"model": "student", "nucleus_f1": 0.5}]))
    cut, again = commands(folder)
    assert "encode --segments" in cut
    for command in (cut, again):
        check_options(command)


def test_commands_of_a_synthesiser(make_run):
    folder = make_run("own")
    row = {"model": "student", "steps": 2, "nfe": 2, "mel_patches": 0.5}
    (folder / "summary.json").write_text(json.dumps([row]))
    found = commands(folder)
    assert [command.split()[3] for command in found] == ["sample", "export", "test"]
    assert "--text" in found[0]
    for command in found:
        check_options(command)


def test_commands_of_a_converter_of_voices(make_run):
    folder = make_run("own")
    row = {"model": "student", "mel_to_target": 0.5, "target_share": 0.9}
    (folder / "summary.json").write_text(json.dumps([row]))
    found = commands(folder)
    assert [command.split()[3] for command in found] == ["convert-voice", "export", "test"]
    for command in found:
        check_options(command)
    # One of a single voice is no converter that the verb reads.
    (folder / "summary.json").write_text(json.dumps([row | {"content_phone": 0.5}]))
    assert not any("convert-voice" in command for command in commands(folder))


@pytest.mark.slow
def test_commands_of_a_run_run(monkeypatch, tmp_path: Path):
    configuration = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    monkeypatch.chdir(tmp_path)
    short = ["--model.init_args.round_iterations", "[2, 2, 2, 2]"]
    assert main(["fit", "--config", str(configuration), *short]) == 0
    run = load_run(tmp_path / "runs" / "quickstart" / "version_0")
    for step in next_steps(run):
        assert main(shlex.split(step.command)[3:]) == 0, step.command
    for name in ("quickstart.png", "quickstart.safetensors"):
        assert (tmp_path / name).is_file()
    measured = tmp_path / "runs" / "quickstart" / "test_0" / "summary.json"
    assert json.loads(measured.read_text())
