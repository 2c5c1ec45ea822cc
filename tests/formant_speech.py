"""Synthetic speech as files, to try the verbs that read audio without any of one's own.

    python -m tests.formant_speech FOLDER

writes the corpus of ``configs/formant``: ``FOLDER/train/SPEAKER/NAME.wav``, and the speakers that
are held out into ``FOLDER/heldout``.
"""

import sys
from pathlib import Path

from datamodules.speech.formant import FormantDataModule
from kdlight.storage.audio import write_audio


def write(folder: Path) -> None:
    """Write every utterance as a WAV file of 16 kHz."""
    splits = FormantDataModule().splits
    for part, utterances in (("train", splits.training), ("heldout", splits.heldout)):
        for each in utterances:
            place = folder / part / str(each.speaker)
            place.mkdir(parents=True, exist_ok=True)
            write_audio(place / f"{each.name}.wav", each.source, each.sample_rate)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
