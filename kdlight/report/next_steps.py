"""What to do with a run that has ended: the commands that go on from it."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdlight.report.runs import Run
from kdlight.storage.yaml_text import load_yaml

EVALUATED = {
    "DigitsDataModule": "digits",
    "MNIST5kDataModule": "mnist5k",
    "CIFAR10DataModule": "cifar10",
}
"""Data sets that ``evaluate images`` knows by name, by the data module of a run."""

FOLDER = "ImageFolderDataModule"
"""Data that it reads from their folder, if their classes are folders too."""


@dataclass(frozen=True)
class NextStep:
    """A command line.

    Attributes:
        title: What it does.
        command: All of it.
    """

    title: str
    command: str


def next_steps(run: Run) -> list[NextStep]:
    """The commands that sample from, measure and export what ``run`` trained.

    Paths are as in the folder in which the run was started. None where there is nothing to go on
    from: no checkpoint, or no figures yet.
    """
    folder = _folder(run.path)
    checkpoint = f"{folder}/checkpoints/last.ckpt"
    if not run.rows or not (run.path / "checkpoints" / "last.ckpt").is_file():
        return []
    again = NextStep(
        "Measure it again",
        _command("test", "--config", f"{folder}/config.yaml", "--ckpt_path", checkpoint),
    )
    if any("kbps" in row.values for row in run.rows):
        return [*_of_codec(run.path.resolve().parent.name, checkpoint), again]
    if any("nucleus_f1" in row.values for row in run.rows):
        name = f"{run.path.resolve().parent.name}_syllables"
        cut = ("encode", "--segments", "--checkpoint", checkpoint, "my/speech", "--output", name)
        return [NextStep("Speech to syllables", _command(*cut)), again]
    # A converter to one voice has figures of its content beside these, and no verb.
    figures = {name for row in run.rows for name in row.values}
    if "mel_to_target" in figures and "content_phone" not in figures:
        return [*_of_converter(run.path.resolve().parent.name, checkpoint), again]
    if any("mel_patches" in row.values for row in run.rows):
        return [*_of_synthesiser(run.path.resolve().parent.name, checkpoint), again]
    if any("tokens_per_second" in row.values for row in run.rows):
        return [*_of_writer(run.path.resolve().parent.name, checkpoint), again]
    if any("parameters" in row.values for row in run.rows):
        return [*_of_classifier(run.path.resolve().parent.name, checkpoint), again]
    steps = [row.steps for row in run.rows if row.model == "student" and row.steps is not None]
    return [*_of_generator(run, checkpoint, sorted(set(steps))), again] if steps else [again]


def _of_generator(run: Run, checkpoint: str, steps: list[int]) -> list[NextStep]:
    source = ("--checkpoint", checkpoint)
    few = ("--steps", str(steps[0]))
    name = run.path.resolve().parent.name
    found = [
        NextStep(
            "Sample from the student",
            _command("sample", *source, *few, "--num-samples", "100", "--output", f"{name}.png"),
        )
    ]
    measured = _measured_on(run.config)
    if measured:
        counts = ("--steps", *map(str, steps))
        found.append(
            NextStep(
                "Measure it with other samples or steps",
                _command(
                    *("evaluate", "images", *source, *measured, *counts),
                    *("--num-samples", "5000", "--seed", "1"),
                ),
            )
        )
    found.append(
        NextStep(
            "Export the student's weights",
            _command("export", *source, *few, "--output", f"{name}.safetensors"),
        )
    )
    return found


def _of_classifier(name: str, checkpoint: str) -> list[NextStep]:
    source = ("--checkpoint", checkpoint)
    return [
        NextStep(
            "Export it as an ONNX file",
            _command("export", *source, "--to", "onnx", "--output", name),
        ),
        NextStep(
            "Export its weights as its library names them",
            _command("export", *source, "--to", "state_dict", "--output", name),
        ),
    ]


def _of_writer(name: str, checkpoint: str) -> list[NextStep]:
    source = ("--checkpoint", checkpoint)
    return [
        NextStep("Let it write", _command("generate", *source, "--output", f"{name}.txt")),
        NextStep(
            "Measure it with other samples",
            _command("evaluate", "language", *source, "--num-samples", "1000", "--seed", "1"),
        ),
        NextStep(
            "Export the model's weights",
            _command("export", *source, "--output", f"{name}.safetensors"),
        ),
    ]


def _of_synthesiser(name: str, checkpoint: str) -> list[NextStep]:
    source = ("--checkpoint", checkpoint)
    text = ("--text", "hh-ah-l-ow, w-er-l-d", "--speaker", "0")
    return [
        NextStep("Let it speak", _command("sample", *source, *text, "--output", f"{name}.wav")),
        NextStep(
            "Export the model's weights",
            _command("export", *source, "--output", f"{name}.safetensors"),
        ),
    ]


def _of_converter(name: str, checkpoint: str) -> list[NextStep]:
    source = ("--checkpoint", checkpoint)
    what = ("my/speech", "--to", "my/voice.wav")
    return [
        NextStep(
            "Recordings in another voice",
            _command("convert-voice", *what, *source, "--output", f"{name}_converted"),
        ),
        NextStep(
            "Export the converter's weights",
            _command("export", *source, "--output", f"{name}.safetensors"),
        ),
    ]


def _of_codec(name: str, checkpoint: str) -> list[NextStep]:
    source = ("--checkpoint", checkpoint)
    return [
        NextStep(
            "Speech to tokens",
            _command("encode", *source, "my/speech", "--output", f"{name}_tokens"),
        ),
        NextStep(
            "Tokens to speech",
            _command("decode", *source, f"{name}_tokens", "--output", f"{name}_speech"),
        ),
        NextStep(
            "Measure it on other speech",
            _command("evaluate", "codec", *source, "--reference", "my/speech"),
        ),
        NextStep(
            "Export the codec's weights",
            _command("export", *source, "--output", f"{name}.safetensors"),
        ),
    ]


def _command(*words: str) -> str:
    return shlex.join(("python", "-m", "kdlight", *words))


def _folder(path: Path) -> str:
    """The run folder from where it was started: a page names no path of the machine."""
    folder = path.resolve()
    here = Path.cwd()
    if folder.is_relative_to(here):
        return folder.relative_to(here).as_posix()
    return Path(*folder.parts[-3:]).as_posix()


def _measured_on(config: str) -> list[str]:
    """Data and classifier of the run as options of ``evaluate images``; none where it has none."""
    try:
        settings: Any = load_yaml(config)
        module = str(settings["data"]["class_path"]).rpartition(".")[2]
        arguments = settings["data"].get("init_args") or {}
        callbacks = settings["trainer"]["callbacks"]
        found = [callback.get("init_args", {}).get("classifier") for callback in callbacks]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []
    options = []
    if module in EVALUATED:
        options = ["--data", EVALUATED[module]]
    elif module == FOLDER and arguments.get("data_dir") and not arguments.get("labels"):
        options = ["--data", str(arguments["data_dir"])]
        if arguments.get("bit_depth"):
            options += ["--bit-depth", str(arguments["bit_depth"])]
    classifier = next((name for name in found if isinstance(name, str)), None)
    return options if not options or classifier is None else [*options, "--classifier", classifier]
