"""``export``: a trained model as safetensors, or in the format of another library."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdlight.codec.codec import Codec
from kdlight.codec.foreign.files import is_repository, read_transformers
from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    add_model,
    add_sigmas,
    check_output,
    check_place,
    picked,
    positive,
    refuse_idle,
)
from kdlight.commands.shared.folders import newest_checkpoint
from kdlight.diffusion.generator import Generator
from kdlight.discrete.text_generator import writes_tokens
from kdlight.errors import InputError
from kdlight.export.classifier import export_classifier
from kdlight.export.language_model import export_language_model
from kdlight.export.traced import LEAST, export_traced
from kdlight.export.transformers import export_transformers
from kdlight.networks.images.classifier import CLASSES, Classifier
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.networks.text.classifier import TextClassifier
from kdlight.networks.text.encoder import TransformerEncoder
from kdlight.networks.text.exits import ExitEncoder
from kdlight.storage.files import is_there, read_json, save_model
from kdlight.storage.text import read_text
from kdlight.surgery.binary import packed_model
from kdlight.teachers.checkpoint import load_models, models_of
from kdlight.teachers.classifiers import run_classifier
from kdlight.teachers.codec import load_codec
from kdlight.teachers.synthesis import synthesis_teacher


def parser() -> Parser:
    """The options of ``export``."""
    made = Parser(
        "export",
        "Write a model of a run. A name that ends in .safetensors gets weights and, beside them, "
        "a JSON with all it takes to rebuild the model; any other name becomes a folder: one that "
        "diffusers' DiffusionPipeline.from_pretrained loads, or for a codec what --to names.",
        "export --run runs/quickstart --steps 1 --output student.safetensors",
    )
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint, or .safetensors model")
    source.add_argument("--run", type=Path, help="run folder, or that of all versions: the newest")
    made.add_argument("--output", type=Path, required=True, help=".safetensors file or folder")
    made.add_argument(
        "--steps",
        type=positive,
        default=None,
        help="the student of that many steps (default: the last trained)",
    )
    add_sigmas(made)
    made.add_argument(
        "--to",
        choices=("transformers", "onnx", "torch", "state_dict"),
        default=None,
        help="for a codec: a folder for transformers' EncodecModel, or encoder and decoder as "
        "ONNX files or torch.export programs; for a language model of transformers: its folder; "
        "for a classifier: an ONNX file, a program, weights as its library names them, or the "
        "folder of transformers",
    )
    add_model(made)
    made.add_argument(
        "--exit",
        type=positive,
        default=None,
        metavar="LAYER",
        help="of an encoder with exits, the model that ends behind this layer (default: the last)",
    )
    made.add_argument(
        "--packed",
        action="store_true",
        help="of a model with weights of two binary planes, store two bits a weight",
    )
    made.add_argument("--summary", default="", help="one sentence for the model card")
    made.add_argument(
        "--half", action="store_true", help="store the weights of a .safetensors file as float16"
    )
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``export``."""
    known = parser()
    options = known.parse_args(argv)
    to_file = options.to is None and options.output.suffix == ".safetensors"
    if not to_file:
        refuse_idle(
            known.typed(argv), ("summary",), "a .safetensors file to write", "another output"
        )
    if options.exit is not None or options.packed:
        refuse_idle(
            known.typed(argv), ("steps", "sigmas"), "a generator, and no --exit or --packed"
        )
    checkpoint = options.checkpoint or newest_checkpoint(options.run, f"--run {options.run}")
    for name in ("half", "packed"):
        if getattr(options, name) and not to_file:
            found = options.output if options.to is None else f"--to {options.to}"
            raise InputError(f"--{name}: expected a .safetensors file to write, found {found}.")
    if options.exit is not None and options.output.suffix != ".safetensors" and options.to is None:
        raise InputError("--exit: expected a .safetensors file to write, or --to transformers.")
    if options.to is not None:
        if options.steps is not None or options.sigmas is not None:
            raise InputError(
                f"--to {options.to}: a codec or a language model has no --steps and no --sigmas."
            )
        classifier = _classifier(checkpoint, options)
        if classifier is not None:
            _export_classifier(classifier, checkpoint, options)
            print(options.output)
            return
        language = _language_model(checkpoint, options)
        if language is not None:
            if options.to != "transformers":
                raise InputError(f"--to {options.to}: expected transformers for a language model.")
            _check_folder(options.output)
            export_language_model(language, options.output)
            print(options.output)
            return
        _export_codec(load_codec(str(checkpoint), options.model), options.output, options.to)
    elif options.output.suffix == ".safetensors":
        check_output(options.output, (".safetensors",), [checkpoint], options.force)
        if options.exit is not None or options.packed:
            model = _of_text(checkpoint, options)
        else:
            model = _model(checkpoint, options)
        save_model(model, options.output, notes_of(checkpoint, options.summary), options.half)
    elif options.output.suffix:
        raise InputError(
            f"--output {options.output}: expected a name that ends in .safetensors, or a folder."
        )
    else:
        _check_folder(options.output)
        # diffusers takes seconds to import.
        from kdlight.export.diffusers import export_diffusers

        generator = _generator(checkpoint, options)
        export_diffusers(generator, options.output, options.steps)
    print(options.output)


def _model(checkpoint: Path, options: argparse.Namespace) -> nn.Module:
    """The model that a ``.safetensors`` shall hold."""
    named = str(checkpoint)
    as_it_is = options.steps is None and options.sigmas is None
    if as_it_is and (checkpoint.is_dir() or is_repository(named)):
        return read_transformers(named)
    models = {} if checkpoint.suffix == ".safetensors" else dict(load_models(checkpoint))
    if any(isinstance(each, Synthesiser) for each in models.values()):
        return synthesis_teacher(named, options.steps, options.model)
    if options.model in models and as_it_is:
        return models[options.model]
    if len(models) == 1 and as_it_is and options.model is None:
        return next(iter(models.values()))
    return _generator(checkpoint, options)


def _language_model(checkpoint: Path, options: argparse.Namespace) -> nn.Module | None:
    """A model of text of that name, the student before others; None where there is none."""
    if not checkpoint.is_file():
        return None
    models = {
        name: each
        for name, each in models_of(checkpoint)
        if isinstance(each, (TextClassifier, TransformerEncoder, ExitEncoder))
        or writes_tokens(each)
    }
    found = models.get(options.model or "student") or next(iter(models.values()), None)
    return _up_to_exit(found, options) if found is not None else None


def _of_text(checkpoint: Path, options: argparse.Namespace) -> nn.Module:
    """A model of text, as ``--exit`` and ``--packed`` make it smaller."""
    found = _language_model(checkpoint, options)
    if found is None:
        raise InputError(f"{checkpoint}: expected a model of text for --exit and --packed.")
    return packed_model(found) if options.packed else found


def _up_to_exit(model: nn.Module, options: argparse.Namespace) -> nn.Module:
    """An encoder with exits up to the one that is asked for; any other model as it is."""
    if isinstance(model, ExitEncoder):
        try:
            return model.prefix(options.exit or model.exits[-1])
        except InputError as error:
            raise InputError(f"--{error}") from None
    if options.exit is not None:
        raise InputError(
            f"--exit {options.exit}: expected an encoder with exits, found {type(model).__name__}."
        )
    return model


def _classifier(checkpoint: Path, options: argparse.Namespace) -> Classifier | None:
    """A classifier of that name, the student before others; None where there is none."""
    if not checkpoint.is_file() or not any(
        isinstance(each, Classifier) for _, each in models_of(checkpoint)
    ):
        return None
    return run_classifier(str(checkpoint), options.model)


def _export_classifier(
    classifier: Classifier, checkpoint: Path, options: argparse.Namespace
) -> None:
    _check_folder(options.output)
    known: dict[str, Any] = {}
    if (checkpoint.parent.parent / CLASSES).is_file():
        known = read_json(checkpoint.parent.parent / CLASSES)
    names = known.get("class_names", [])
    about = export_classifier(classifier, options.output, options.to, known.get("shape"), names)
    for runtime, spent in about.get("ms_per_image", {}).items():
        print(f"{runtime}: {spent:.3g} ms an image, one at a time")


def _generator(checkpoint: Path, options: argparse.Namespace) -> Generator:
    try:
        return picked(checkpoint, options.steps, options.model, options.sigmas)
    except InputError:
        _refuse_codec(checkpoint, options.model)
        raise


def _export_codec(codec: Codec, output: Path, to: str) -> None:
    if to == "state_dict":
        raise InputError("--to state_dict: expected transformers, onnx or torch for a codec.")
    _check_folder(output)
    if to == "transformers":
        export_transformers(codec, output)
    else:
        export_traced(codec, output, to)
        least = f"{LEAST} frames, {LEAST * codec.hop_length} samples"
        print(f"encoder and decoder take at least {least}: fill shorter audio up with silence")


def _refuse_codec(checkpoint: Path, model: str | None) -> None:
    """Say what can be done with a codec; nothing if there is none."""
    try:
        load_codec(str(checkpoint), model)
    except InputError:
        return
    raise InputError(
        f"{checkpoint}: a codec is taken as it is by encode and decode, and becomes a folder for "
        "other programs --to transformers, onnx or torch; found no --to."
    )


def _check_folder(output: Path) -> None:
    """Refuse an output folder that cannot be written."""
    if output.is_file():
        raise InputError(f"--output {output}: expected a folder, found a file.")
    check_place(output)
    check_place(output / "any")  # a broken link


def notes_of(checkpoint: Path, summary: str) -> dict[str, Any]:
    """The model card: what the run's folder knows of how the model came to be."""
    folder = checkpoint.parent.parent
    notes: dict[str, Any] = {"summary": summary}
    if is_there(folder / "run.json"):
        known = read_json(folder / "run.json")
        if not isinstance(known, dict):
            raise InputError(f"{folder / 'run.json'}: expected an object, found something else.")
        kept = ("command", "seed", "method", "iterations", "versions", "cpu_seconds", "teacher")
        notes |= {key: known[key] for key in kept if known.get(key) is not None}
    if is_there(folder / "summary.json"):
        notes["metrics"] = read_json(folder / "summary.json")
    if is_there(folder / "config.yaml"):
        notes["config"] = read_text(folder / "config.yaml")
    return notes
