"""``convert``: a published codec, image model or language model as a model of kdlight."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    check_output,
    inputs_of,
    positive,
    step_count,
)
from kdlight.convert.bigcodec import convert_bigcodec
from kdlight.convert.dac import convert_dac
from kdlight.convert.dmcodec import convert_dmcodec
from kdlight.convert.encodec import convert_encodec
from kdlight.convert.mdlm import convert_mdlm
from kdlight.convert.mimi import convert_mimi
from kdlight.convert.smdm import convert_smdm
from kdlight.convert.speechtokenizer import convert_speechtokenizer
from kdlight.convert.wavtokenizer import convert_wavtokenizer
from kdlight.convert.xcodec import convert_xcodec
from kdlight.errors import InputError
from kdlight.storage.files import save_model, sha256_of
from kdlight.teachers.published.adm import adm_teacher
from kdlight.teachers.published.edm import edm_teacher
from kdlight.teachers.published.edm2 import edm2_teacher

FORMATS: dict[str, Callable[..., nn.Module]] = {
    "encodec": convert_encodec,
    "speechtokenizer": convert_speechtokenizer,
    "dmcodec": convert_dmcodec,
    "dac": convert_dac,
    "mimi": convert_mimi,
    "wavtokenizer": convert_wavtokenizer,
    "bigcodec": convert_bigcodec,
    "xcodec": convert_xcodec,
    "edm": edm_teacher,
    "edm2": edm2_teacher,
    "adm": adm_teacher,
    "mdlm": convert_mdlm,
    "smdm": convert_smdm,
}
WHOSE = (
    "whose file it is. Codecs: encodec (24 kHz), speechtokenizer, dmcodec, dac, mimi, "
    "wavtokenizer, bigcodec, xcodec. Image models: edm, edm2, adm. Masked language models: mdlm, "
    "smdm"
)
OPTIONS = (
    *("sample_rate", "steps", "kind", "size", "guide", "guidance_scale", "autoencoder"),
    *("tokenizer", "heads"),
)


def parser() -> Parser:
    """The options of ``convert``."""
    made = Parser(
        "convert",
        "A file of a published model's authors becomes a model of kdlight with the same outputs. "
        "Nothing of the file is run. Codecs in folders of transformers need no conversion: name "
        "the folder.",
        "convert edm edm-cifar10-32x32-uncond-vp.pkl teacher.safetensors\n"
        "  python -m kdlight convert wavtokenizer WavTokenizer.ckpt wavtokenizer.safetensors",
    )
    made.add_argument("format", choices=list(FORMATS), metavar="FORMAT", help=WHOSE)
    made.add_argument("source", type=Path, help="its checkpoint, or its folder (encodec, mdlm)")
    made.add_argument("output", type=Path, help="file to write, .safetensors")
    made.add_argument(
        "--sample-rate", type=positive, default=None, help="of a codec, if not the published one"
    )
    made.add_argument(
        "--steps",
        type=step_count,
        default=None,
        help="default of an image model, if not the paper's",
    )
    made.add_argument(
        "--kind",
        choices=["edm", "consistency", "ddpm"],
        default=None,
        help="how a network of adm is preconditioned, which its file does not say",
    )
    made.add_argument(
        "--size", type=positive, default=None, help="of adm's images, if not as the weights suggest"
    )
    made.add_argument("--guide", type=Path, default=None, help="a second file of edm2 to guide it")
    made.add_argument(
        "--guidance-scale",
        type=float,
        default=None,
        help="how far from the guide, 1 for none",
    )
    made.add_argument(
        "--tokenizer",
        type=Path,
        default=None,
        metavar="PATH",
        help="of a language model: tokenizer.json, or a folder with one; without it, numbers",
    )
    made.add_argument(
        "--heads", type=positive, default=None, help="of smdm's attention, if not as published"
    )
    made.add_argument(
        "--autoencoder",
        default=None,
        help="of edm2's models of 512 x 512 images: stabilityai/sd-vae-ft-mse, or a folder of it",
    )
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``convert``."""
    options = parser().parse_args(argv)
    check_output(options.output, (".safetensors",), inputs_of(options), options.force)
    convert = FORMATS[options.format]
    given = {name: getattr(options, name) for name in OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() - inspect.signature(convert).parameters.keys():
        raise InputError(
            f"--{name.replace('_', '-')}: convert {options.format} has no such option."
        )
    if options.guide is not None and options.guidance_scale in (None, 1.0):
        raise InputError("--guide: expected a --guidance-scale other than 1, which is no guidance.")
    model = convert(options.source, **given)
    notes = {"converted_from": options.format, "source": options.source.name}
    if options.source.is_file():
        notes["sha256"] = sha256_of(options.source)
    save_model(model, options.output, notes)
    print(options.output)
