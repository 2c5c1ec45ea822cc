"""LibriSpeech (Panayotov et al., 2015): read English speech of 16 kHz, by torchaudio."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from torchaudio.datasets import LIBRISPEECH

from datamodules.speech.base import SpeechDataModule
from datamodules.speech.recordings import Recording, usable
from datamodules.speech.utterances import SpeechSplits, in_turns
from kdlight.errors import InputError
from kdlight.storage.text import read_lines

UTTERANCES = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
"""Number of utterances of every subset."""


class LibriSpeechDataModule(SpeechDataModule):
    """Subsets of LibriSpeech with transcripts and speakers.

    Its subsets share no speaker, so training hears some subsets and validation others.
    ``data_dir`` holds ``LibriSpeech/dev-clean`` and so on, as the archives unpack.

    Args:
        data_dir: Folder that holds ``LibriSpeech``, or will.
        training_subsets: Subsets to train on.
        heldout_subsets: Subsets to validate on, speakers in turns.
        download: Whether to fetch archives that are not there (train-clean-100: 6 GB).
        batch_size: Batch size of one rank.
        segment: Length of a training crop, seconds.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the crops.
        num_workers: Processes that read files.
        sample_rate: Rate that the audio is resampled to, Hz.
        hop_length: Samples of one frame of the codec.
        heldout_seconds: Cut held-out utterances to this length; None keeps them whole.
        cache_mb: Memory for decoded audio, MiB; files beyond it are read at every crop.
    """

    def __init__(
        self,
        data_dir: str = "data",
        training_subsets: Sequence[str] = ("train-clean-100",),
        heldout_subsets: Sequence[str] = ("dev-clean",),
        download: bool = True,
        batch_size: int = 16,
        segment: float = 1.0,
        steps_per_epoch: int = 500,
        seed: int = 0,
        num_workers: int = 2,
        sample_rate: int = 16000,
        hop_length: int = 320,
        heldout_seconds: float | None = 10.0,
        cache_mb: int = 512,
    ) -> None:
        super().__init__(
            batch_size,
            segment,
            steps_per_epoch,
            seed,
            num_workers,
            sample_rate,
            hop_length,
            0,
            heldout_seconds,
        )
        for key, subsets in (
            ("training_subsets", training_subsets),
            ("heldout_subsets", heldout_subsets),
        ):
            for name in subsets:
                if name not in UTTERANCES:
                    raise InputError(
                        f"{key}: expected one of {', '.join(UTTERANCES)}, found {name!r}."
                    )
        if not training_subsets:
            raise InputError("training_subsets: expected at least one subset, found none.")
        if both := sorted(set(training_subsets) & set(heldout_subsets)):
            raise InputError(f"heldout_subsets: {both[0]} is one of training_subsets too.")
        self.data_dir = Path(data_dir)
        self.training_subsets = list(training_subsets)
        self.heldout_subsets = list(heldout_subsets)
        self.download = download
        self.cache_mb = cache_mb

    def prepare_data(self) -> None:
        """Fetch the archives that are not there (one process per machine does this).

        Raises:
            InputError: One is not there and cannot be fetched.
        """
        if not self.download:
            return
        for name in self.training_subsets + self.heldout_subsets:
            try:
                self.data_dir.mkdir(parents=True, exist_ok=True)
                LIBRISPEECH(self.data_dir, name, download=True)
            except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
                raise InputError(
                    f"{self.data_dir}: holds no LibriSpeech/{name}, and downloading it failed "
                    f"({str(error).rstrip('.')})."
                ) from None

    def read(self) -> SpeechSplits:
        found = {name: self._subset(name) for name in self.training_subsets + self.heldout_subsets}
        utterances = usable(
            [recording for recordings in found.values() for recording in recordings],
            self.sample_rate,
            self.hop_length,
            self.cache_mb,
            f"{self.data_dir}/LibriSpeech",
            show=self.ranks[0] == 0,
        )
        training, heldout = (
            [item for item in utterances if item.name.split("/")[0] in subsets]
            for subsets in (self.training_subsets, self.heldout_subsets)
        )
        return SpeechSplits(training, in_turns(heldout))

    def _subset(self, name: str) -> list[Recording]:
        folder = self.data_dir / "LibriSpeech" / name
        if not folder.is_dir():
            raise InputError(f"{folder}: expected this subset of LibriSpeech, found no folder.")
        recordings = sorted(_recordings(folder), key=lambda recording: recording.name)
        if not recordings:
            raise InputError(f"{folder}: expected SPEAKER/CHAPTER/*.flac, found no such file.")
        if len(recordings) != UTTERANCES[name]:
            rank_zero_warn(
                f"{folder}: expected {UTTERANCES[name]} utterances, found {len(recordings)}; "
                "if unpacking was interrupted, delete the folder to unpack again."
            )
        return recordings


def _recordings(folder: Path) -> Iterator[Recording]:
    """The utterances of a subset that have a transcript, chapter by chapter."""
    for table in folder.glob("*/*/*.trans.txt"):
        speaker = table.parent.parent.name
        for line in filter(None, map(str.strip, read_lines(table))):
            name, _, transcript = line.partition(" ")
            path = table.parent / f"{name}.flac"
            yield Recording(path, str(path.relative_to(folder.parent)), transcript, speaker)
