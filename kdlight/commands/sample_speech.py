"""``sample --text``: a sentence, spoken."""

import argparse

import torch

from kdlight.commands.parsing.arguments import check_output
from kdlight.errors import InputError
from kdlight.networks.speech.phone_text import read_phones
from kdlight.storage.audio import read_audio, write_audio
from kdlight.teachers.synthesis import synthesis_teacher
from kdlight.teachers.talker import token_talker

LONGEST = 20_000
"""Most characters of a text: about ten minutes of speech."""


def run_text(options: argparse.Namespace) -> None:
    """Write ``--text`` as audio.

    Args:
        options: Of ``sample``.

    Raises:
        InputError: The checkpoint holds no synthesiser or none of so many steps, or it does not
            know the text or the voice.
    """
    check_output(options.output, (".wav", ".flac"), [options.checkpoint], options.force)
    if len(options.text) > LONGEST:
        raise InputError(
            f"--text: expected at most {LONGEST} characters, found {len(options.text)}."
        )
    if options.acoustic is not None or options.codec is not None:
        _run_codes(options)
        return
    if options.prompt is not None:
        raise InputError("--prompt: expected --acoustic and --codec beside it, found neither.")
    model = synthesis_teacher(str(options.checkpoint), options.steps, options.model)
    voice = 0 if options.speaker is None else options.speaker
    if not 0 <= voice < model.voices:
        raise InputError(
            f"--speaker: expected a voice from 0 to {model.voices - 1}, found {voice}."
        )
    try:
        read_phones(options.text, model.phones)
    except InputError as error:
        raise InputError(f"--{error}") from None
    model = model.to(options.device)
    with torch.no_grad():
        spoken = model.speak(options.text, voice, options.steps, options.seed)
    write_audio(options.output, spoken.audio, model.log_mel.sample_rate)
    print(options.output)


def _run_codes(options: argparse.Namespace) -> None:
    """Write ``--text`` by way of a codec's codes."""
    if options.acoustic is None or options.codec is None:
        raise InputError("--acoustic and --codec: expected both, found one.")
    if options.prompt is not None and options.speaker is not None:
        raise InputError("--prompt: expected none with --speaker, found one.")
    talker = token_talker(
        str(options.checkpoint), str(options.acoustic), options.codec, options.model
    )
    prompt = None
    if options.prompt is not None:
        prompt = read_audio(options.prompt, talker.codec.sample_rate)
    talker = talker.to(options.device)
    voice = 0 if options.speaker is None else options.speaker
    steps = 16 if options.steps is None else options.steps
    try:
        audio = talker.speak(options.text, voice, steps, options.seed, prompt)
    except InputError as error:
        raise InputError(f"--{error}") from None
    write_audio(options.output, audio.cpu(), talker.codec.sample_rate)
    print(options.output)
