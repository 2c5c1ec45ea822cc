"""``convert``: a published codec as a model of kdlight."""

from collections.abc import Sequence
from pathlib import Path

from kdlight.commands.parsing.arguments import Parser, add_force, check_output, positive
from kdlight.convert.dmcodec import convert_dmcodec
from kdlight.convert.encodec import convert_encodec
from kdlight.convert.speechtokenizer import convert_speechtokenizer
from kdlight.storage.files import save_model, sha256_of

FORMATS = {
    "encodec": convert_encodec,
    "speechtokenizer": convert_speechtokenizer,
    "dmcodec": convert_dmcodec,
}


def parser() -> Parser:
    """The options of ``convert``."""
    made = Parser(
        "convert",
        "Rebuild a published codec, with the same codes and the same audio. Nothing of the file "
        "but its tensors is read. EnCodec at 48 kHz (stereo, scaled, in pieces) is refused.",
        "convert encodec encodec_24khz.th encodec.safetensors",
    )
    made.add_argument("format", choices=sorted(FORMATS), help="whose codec it is")
    made.add_argument(
        "source", type=Path, help="its checkpoint, or a folder of transformers (encodec)"
    )
    made.add_argument("output", type=Path, help="file to write, .safetensors")
    made.add_argument("--sample-rate", type=positive, default=None, help="if not the published one")
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``convert``."""
    options = parser().parse_args(argv)
    check_output(options.output, (".safetensors",), [options.source], options.force)
    codec = FORMATS[options.format](options.source, options.sample_rate)
    notes = {"converted_from": options.format, "source": options.source.name}
    if options.source.is_file():
        notes["sha256"] = sha256_of(options.source)
    save_model(codec, options.output, notes)
    print(options.output)
