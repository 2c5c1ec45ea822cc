"""Speech in a folder of audio files, or named by a manifest."""

import re
from pathlib import Path

from datamodules.speech.base import SpeechDataModule
from datamodules.speech.manifest import read_manifest
from datamodules.speech.recordings import Recording, usable
from datamodules.speech.utterances import SpeechSplits, split_speakers
from datamodules.speech.variation import SpeechVariation
from kdlight.errors import InputError
from kdlight.storage.audio import find_audio
from kdlight.storage.text import text_beside

LIBRISPEECH = re.compile(r"\d+-\d+-\d+")
"""Names of its files: speaker, chapter, utterance."""


class SpeechFolderDataModule(SpeechDataModule):
    """Audio files of any rate and format, resampled and mixed to one channel.

    In a folder, the speaker of ``data_dir/anna/1.wav`` is the folder, anna. A file right in
    ``data_dir``, or one named as in LibriSpeech (``1034-121119-0000.flac``), has its speaker in
    front of the first ``-``. A text file beside the audio, ``1.txt`` for ``1.wav``, is its
    transcript. A manifest (:func:`~datamodules.speech.manifest.read_manifest`) says all of this
    itself.

    Files that cannot be used (damaged or cut short, silent, shorter than a frame, with a NaN) are
    left out and listed once in a warning. Floating-point samples in the scale of integers stop the
    run: they say that the whole folder may be so.

    Args:
        data_dir: A folder, or a manifest that ends in .csv, .tsv or .jsonl.
        batch_size: Batch size of one rank.
        segment: Length of a training crop, seconds.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the crops.
        num_workers: Processes that read files; not needed for what fits into the cache.
        sample_rate: Rate that all audio is resampled to, Hz.
        hop_length: Samples of one frame of the codec.
        heldout: How many speakers to hold out, or their names; 0 holds none out.
        heldout_seconds: Cut held-out utterances to this length; None keeps them whole.
        cache_mb: Memory for decoded audio, MiB; files beyond it are read at every crop.
        variation: Makes each training crop another, so that few speakers are as many: for codecs
            and whatever else learns the audio itself.
    """

    def __init__(
        self,
        data_dir: str,
        batch_size: int = 16,
        segment: float = 1.0,
        steps_per_epoch: int = 500,
        seed: int = 0,
        num_workers: int = 0,
        sample_rate: int = 16000,
        hop_length: int = 320,
        heldout: int | list[str | int] = 1,
        heldout_seconds: float | None = 10.0,
        cache_mb: int = 512,
        variation: SpeechVariation | None = None,
    ) -> None:
        super().__init__(
            batch_size,
            segment,
            steps_per_epoch,
            seed,
            num_workers,
            sample_rate,
            hop_length,
            heldout,
            heldout_seconds,
            variation,
        )
        self.data_dir = Path(data_dir)
        self.cache_mb = cache_mb

    def read(self) -> SpeechSplits:
        if not self.data_dir.exists():
            raise InputError(f"{self.data_dir}: expected a folder or a manifest, found nothing.")
        folder = self.data_dir.is_dir()
        recordings = _in_folder(self.data_dir) if folder else read_manifest(self.data_dir)
        utterances = usable(
            recordings,
            self.sample_rate,
            self.hop_length,
            self.cache_mb,
            str(self.data_dir),
            show=self.ranks[0] == 0,
        )
        return split_speakers(utterances, self.heldout, str(self.data_dir))


def _in_folder(folder: Path) -> list[Recording]:
    recordings = []
    for path in find_audio(folder):
        name = path.relative_to(folder)
        named = path.parent == folder or LIBRISPEECH.fullmatch(path.stem)
        speaker = path.stem.split("-")[0] if named else path.parent.name
        recordings.append(Recording(path, str(name), _transcript(path), speaker))
    return recordings


def _transcript(path: Path) -> str:
    """What a text file beside the audio says; empty without one."""
    return " ".join((text_beside(path) or "").split())
