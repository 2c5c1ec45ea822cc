"""What a run keeps to listen to: sounds side by side, for the report's page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from kdlight.callbacks.speech.spectrograms import levels, save_spectrogram
from kdlight.storage.audio import write_audio
from kdlight.storage.files import write_json


class Said(NamedTuple):
    """An utterance by its name, who speaks, and what."""

    name: str
    speaker: str
    transcript: str


class Version(NamedTuple):
    """One sound of an utterance.

    Attributes:
        label: What it is called beside the others.
        audio: (1, T).
        figures: What is shown below it.
    """

    label: str
    audio: Tensor
    figures: Mapping[str, float] = {}


def keep_players(folder: Path, utterances: Sequence[tuple[Said, list[Version]]], rate: int) -> None:
    """FLAC and PNG of each sound, and ``utterances.json``, which the page reads.

    Args:
        folder: ``samples`` of a run.
        utterances: The first version of each is the original: its loudest cell is the brightest
            of all its pictures.
        rate: Samples per second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, Any]] = []
    for index, (said, versions) in enumerate(utterances):
        original = versions[0].audio
        top = float(levels(original.cpu(), rate).max())
        files = []
        for label, audio, figures in versions:
            stem = f"utterance_{index}_{label.replace(', ', '_').replace(' ', '_')}"
            sound = audio.cpu().nan_to_num()
            write_audio(folder / f"{stem}.flac", sound, rate)
            save_spectrogram(sound, rate, folder / f"{stem}.png", top)
            files.append({"n_q": None, "label": label, "file": stem, "figures": dict(figures)})
        listed.append(
            {
                **said._asdict(),
                "seconds": original.shape[-1] / rate,
                "sample_rate": rate,
                "versions": files,
            }
        )
    write_json(folder / "utterances.json", listed)
