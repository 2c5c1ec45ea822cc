"""``convert-voice``: recordings, said in the voice of another."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kdlight.commands.decode import FORMATS
from kdlight.commands.parsing.arguments import Parser, add_device, add_force, add_model, seed
from kdlight.commands.shared.trees import Told, each_in_turn, files_of, planned
from kdlight.errors import InputError
from kdlight.networks.speech.timbre_converter import QUIETEST, TimbreConverter
from kdlight.storage.audio import find_audio, read_audio, write_audio
from kdlight.teachers.voices import voice_converter

LONGEST = 20.0
"""Seconds that are converted at once, and of the other voice at most: attention is quadratic."""


def parser() -> Parser:
    """The options of ``convert-voice``."""
    made = Parser(
        "convert-voice",
        "Recordings in another voice: NAME.wav for each, as long as its original, said by who "
        "speaks in --to. What lies in folders keeps its place; a file that cannot be converted is "
        "left out, and told at the end. Recordings of more than 20 s are converted in parts.",
        "convert-voice what.wav --to who.wav --checkpoint "
        "runs/formant_timbre_self_distillation/version_0/checkpoints/last.ckpt --output converted/",
    )
    made.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="files or folders")
    made.add_argument("--to", type=Path, required=True, help="a recording of the other voice")
    made.add_argument("--output", type=Path, required=True, help="folder of the audio")
    made.add_argument("--format", choices=FORMATS, default="wav", help="of the audio, default wav")
    made.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="checkpoint of a run of TimbreFactorisation, or an exported .safetensors",
    )
    add_model(made)
    made.add_argument("--seed", type=seed, default=0, help="of the noise, default 0")
    add_device(made)
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``convert-voice``."""
    options = parser().parse_args(argv)
    model = voice_converter(str(options.checkpoint), options.model)
    rate = model.log_mel.sample_rate
    reference = read_audio(options.to, rate)
    if reference.shape[-1] > LONGEST * rate:
        raise InputError(
            f"--to {options.to}: expected at most {LONGEST:g} s of the voice, "
            f"found {reference.shape[-1] / rate:.0f} s."
        )
    try:
        model.check(reference)
    except InputError as error:
        raise InputError(f"--to {options.to}: {error}") from None
    listed = partial(files_of, find=find_audio)
    work = planned(options.inputs, options.output, listed, f".{options.format}")
    for source, target in work:
        if not options.force and target.exists() and target.samefile(source):
            raise InputError(
                f"--output {options.output}: expected another folder than that of {source}, "
                "which would be replaced; --force replaces it."
            )
    model.to(options.device)

    def convert(source: Path, target: Path, told: Told) -> None:
        audio = read_audio(source, rate)
        try:
            model.check(audio)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        parts = []
        for part in converted(model, audio, reference, options.seed):
            parts.append(part)
            told(sum(each.shape[-1] for each in parts) / audio.shape[-1])
        write_audio(target, torch.cat(parts, dim=-1), rate)

    each_in_turn(work, convert, options.output, "converting")


def converted(
    model: TimbreConverter, audio: Tensor, reference: Tensor, seed: int
) -> Iterator[Tensor]:
    """Audio (1, t) of equal parts of a recording, in order.

    Args:
        model: In evaluation mode.
        audio: (1, T) at the model's rate.
        reference: (1, P) of the voice.
        seed: Of the noise.
    """
    count = -(-audio.shape[-1] // round(LONGEST * model.log_mel.sample_rate))
    for part in audio.tensor_split(count, dim=-1):
        if part.square().mean().sqrt() <= QUIETEST:  # a pause of a long recording
            yield torch.zeros_like(part)
            continue
        heard = model.log_mel.listen(model.convert(part, reference, seed)).cpu()
        yield heard[:, : part.shape[-1]]
