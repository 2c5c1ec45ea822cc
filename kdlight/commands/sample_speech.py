"""``sample --text``: a sentence, spoken."""

import argparse

import torch

from kdlight.commands.parsing.arguments import check_output
from kdlight.errors import InputError
from kdlight.networks.speech.phone_text import read_phones
from kdlight.storage.audio import write_audio
from kdlight.teachers.synthesis import synthesis_teacher

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
    for name in ("label", "sigmas"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name}: expected none with --text, found one.")
    if len(options.text) > LONGEST:
        raise InputError(
            f"--text: expected at most {LONGEST} characters, found {len(options.text)}."
        )
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
