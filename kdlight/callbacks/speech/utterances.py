"""A few utterances to listen to: original and decoded audio, spectrograms, and their list."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from kdlight.callbacks.speech.spectrograms import levels, save_spectrogram
from kdlight.codec.codec import Codec
from kdlight.storage.audio import write_audio
from kdlight.storage.files import write_json


class HeldOut(Protocol):
    """An utterance that training never hears.

    Attributes:
        name: Unique in its data set.
        transcript: What is said; empty if that is not known.
        speaker: Who says it.
    """

    name: str
    transcript: str
    speaker: str

    def read(self) -> Tensor:
        """The samples, (1, T)."""
        ...


def save_utterances(
    folder: Path,
    codec: Codec,
    utterances: Sequence[HeldOut],
    n_q: Sequence[int],
    seconds: float,
    figures: Mapping[tuple[str, int], Mapping[str, Any]],
) -> None:
    """Write what a report plays: FLAC and PNG of each version, and ``utterances.json``.

    ``utterance_<i>_original.flac`` is the recording, ``utterance_<i>_<n_q>.flac`` what is left of
    it with so many levels; a spectrogram of the same name beside each.

    Args:
        folder: Where.
        codec: In evaluation mode.
        utterances: What to show.
        n_q: Numbers of levels.
        seconds: Audio is cut to this length after it was decoded as a whole.
        figures: Of whole utterances, by name and number of levels; all finite numbers are kept.
    """
    rate = codec.sample_rate
    device = next(codec.parameters()).device
    listed = []
    for index, utterance in enumerate(utterances):
        whole = utterance.read()
        cut = min(whole.shape[-1], round(seconds * rate))
        versions: list[tuple[int | None, Tensor]] = [(None, whole)]
        batch = whole[None].to(device)
        for count in n_q:
            decoded = codec.decode(codec.encode(batch, count))
            versions.append((count, decoded[0, :, : whole.shape[-1]].cpu()))
        top = float(levels(whole[:, :cut], rate).max())
        files = []
        for used, audio in versions:
            stem = f"utterance_{index}_{'original' if used is None else used}"
            write_audio(folder / f"{stem}.flac", audio[:, :cut].nan_to_num(), rate)
            save_spectrogram(audio[:, :cut].nan_to_num(), rate, folder / f"{stem}.png", top)
            cells = {} if used is None else figures.get((utterance.name, used), {})
            numbers = {
                name: float(value)
                for name, value in cells.items()
                if isinstance(value, (int, float)) and math.isfinite(value)
            }
            files.append({"n_q": used, "file": stem, "figures": numbers})
        listed.append(
            {
                "name": utterance.name,
                "speaker": utterance.speaker,
                "transcript": utterance.transcript,
                "seconds": cut / rate,
                "sample_rate": rate,
                "versions": files,
            }
        )
    write_json(folder / "utterances.json", listed)
