"""What the data modules of speech share: crops, batches, loaders, and the position in the data."""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import default_collate

from datamodules.base import EndlessDataModule
from datamodules.loader import EvaluationLoader, StreamLoader
from datamodules.order import seeded
from datamodules.speech.utterances import SpeechSplits, Utterance
from datamodules.speech.variation import SpeechVariation
from kdlight.core.memory import check_fits
from kdlight.core.ranges import NonNegativeInt, PositiveFloat, PositiveInt, SampleRate
from kdlight.errors import InputError


class Crops:
    """Training samples: a random part of each utterance, on the grid of the codec's frames.

    The start is a multiple of ``hop_length`` and a function of (seed, epoch, index) alone. A
    shorter utterance is whole, with zeros behind it. What is varied has neither ``start`` and
    ``total`` nor a transcript or phones: what is known of the recording is not where it was.

    Args:
        utterances: What to crop.
        samples: Length of a crop, a multiple of ``hop_length``.
        hop_length: Samples of a frame.
        seed: Seed of the starts and variations.
        variation: What makes each crop another; None leaves them as they are.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        samples: int,
        hop_length: int,
        seed: int,
        variation: SpeechVariation | None = None,
    ) -> None:
        self.variation = variation
        self.utterances = utterances
        self.samples = samples
        self.hop_length = hop_length
        self.seed = seed

    def __len__(self) -> int:
        return len(self.utterances)

    def start(self, index: int, epoch: int) -> int:
        """First sample of the crop of an utterance in one pass over the data."""
        starts = max(0, self.utterances[index].samples - self.samples) // self.hop_length + 1
        generator = seeded(self.seed, epoch, 2, index)
        return int(torch.randint(starts, (), generator=generator)) * self.hop_length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, epoch = key
        if self.variation is not None:
            return self._varied(self.variation, index, epoch)
        start = self.start(index, epoch)
        return sample_of(self.utterances[index], start, self.samples, self.hop_length)

    def _varied(self, variation: SpeechVariation, index: int, epoch: int) -> dict[str, Any]:
        utterance = self.utterances[index]
        generator = seeded(self.seed, epoch, 3, index)
        taken = variation.source_samples(self.samples, torch.rand((), generator=generator))
        starts = max(0, utterance.samples - taken) + 1
        start = int(torch.randint(starts, (), generator=generator))
        heard = utterance.read(start, taken)
        whole = pad(heard, (0, taken - heard.shape[-1]))
        audio = variation(whole, self.samples, utterance.sample_rate, generator)
        length = round(heard.shape[-1] * self.samples / taken)
        return {
            "audio": audio.masked_fill(torch.arange(self.samples) >= length, 0.0),
            "lengths": torch.tensor(length),
            "varied": torch.tensor(True),
            "speaker": utterance.speaker,
            "path": utterance.name,
        }


class Wholes:
    """Held-out samples: utterances from their start, whole or as far as ``samples``.

    Args:
        utterances: What to read.
        samples: Most samples of one, a multiple of ``hop_length``; None for all.
        hop_length: Samples of a frame.
    """

    def __init__(
        self, utterances: Sequence[Utterance], samples: int | None, hop_length: int
    ) -> None:
        self.utterances = utterances
        self.samples = samples
        self.hop_length = hop_length

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        utterance = self.utterances[key[0]]
        samples = -(-utterance.samples // self.hop_length) * self.hop_length
        if self.samples is not None:
            samples = min(samples, self.samples)
        return sample_of(utterance, 0, samples, self.hop_length)


def sample_of(utterance: Utterance, start: int, samples: int, hop_length: int) -> dict[str, Any]:
    """A part of an utterance as a sample, with zeros behind its end."""
    audio = utterance.read(start, samples)
    sample: dict[str, Any] = {
        "audio": pad(audio, (0, samples - audio.shape[-1])),
        "lengths": torch.tensor(audio.shape[-1]),
        "start": torch.tensor(start),
        "total": torch.tensor(utterance.samples),
        "transcript": utterance.transcript,
        "speaker": utterance.speaker,
        "path": utterance.name,
    }
    if utterance.phones is not None:
        sample["phones"] = utterance.phone_labels(hop_length, start, samples // hop_length)
    return sample


def collate_padded(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of samples of any lengths: tensors are padded with zeros to the longest."""

    def padded(name: str) -> list[Any]:
        values = [sample[name] for sample in samples]
        if not isinstance(values[0], Tensor) or values[0].ndim == 0:
            return values
        longest = max(value.shape[-1] for value in values)
        return [pad(value, (0, longest - value.shape[-1])) for value in values]

    return {name: default_collate(padded(name)) for name in samples[0]}


class SpeechDataModule(EndlessDataModule):
    """Base of the data modules of speech: a subclass says what its utterances are.

    Batches are ``{"audio": (B, 1, T) float32 in [-1, 1], "lengths": (B,) int64, "start": (B,)
    int64, "total": (B,) int64, "transcript": list[str], "speaker": list[str], "path": list[str]}``.
    ``lengths`` counts the samples that are no padding; ``start`` is the first of them in an
    utterance of ``total`` samples, whose name is ``path``. Varied batches have no ``start``,
    ``total`` and ``transcript``. The split is by speaker and
    fixed, whatever the seed.

    Args:
        batch_size: Batch size of one rank.
        segment: Length of a training crop, seconds; rounded down to a multiple of ``hop_length``.
        steps_per_epoch: Batches between two validations; see
            :class:`~datamodules.loader.EndlessLoader`.
        seed: Seed of the order and of the crops.
        num_workers: Worker processes that read files.
        sample_rate: Samples per second of all audio.
        hop_length: Samples of one frame of the codec.
        heldout: How many speakers no training hears, or their names.
        heldout_seconds: Cut held-out utterances to this length; None keeps them whole.
        variation: What makes each training crop another; None leaves them as they are.
    """

    def __init__(
        self,
        batch_size: PositiveInt,
        segment: PositiveFloat,
        steps_per_epoch: PositiveInt,
        seed: NonNegativeInt,
        num_workers: NonNegativeInt,
        sample_rate: SampleRate,
        hop_length: PositiveInt,
        heldout: int | list[str | int],
        heldout_seconds: float | None,
        variation: SpeechVariation | None = None,
    ) -> None:
        super().__init__()
        self.variation = variation
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.num_workers = num_workers
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.heldout = heldout
        self.segment_samples = self._aligned("segment", segment)
        self.heldout_samples = (
            None if heldout_seconds is None else self._aligned("heldout_seconds", heldout_seconds)
        )

    def _aligned(self, name: str, seconds: float) -> int:
        # The small term keeps 0.3 s from losing a frame to binary rounding.
        frames = seconds * self.sample_rate / self.hop_length + 1e-6
        if not 1 <= frames < math.inf:
            raise InputError(
                f"{name}: expected at least one frame of {self.hop_length} samples at "
                f"{self.sample_rate} Hz, found {seconds} s."
            )
        return int(frames) * self.hop_length

    def read(self) -> SpeechSplits:
        """Find the utterances."""
        raise NotImplementedError

    @cached_property
    def splits(self) -> SpeechSplits:
        """The utterances, found once."""
        return self.read()

    def setup(self, stage: str | None = None) -> None:
        """Find the utterances before training starts, so that bad data stop a run at once."""
        check_fits("data.init_args.batch_size", self.batch_size, (self.segment_samples,))
        _ = self.splits

    def training_utterances(self) -> list[Utterance]:
        """The utterances that training batches are cut from."""
        return self.splits.training

    def heldout_utterances(self) -> list[Utterance]:
        """The utterances of the held-out speakers, speakers in turns."""
        return self.splits.heldout

    def make_train_loader(self) -> StreamLoader:
        """A training loader that starts at the beginning."""
        crops = Crops(
            self.splits.training, self.segment_samples, self.hop_length, self.seed, self.variation
        )
        return StreamLoader(
            crops,
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            *self.ranks,
            num_workers=self.num_workers,
        )

    def heldout_dataloader(self) -> Iterable[dict[str, Any]]:
        """The held-out utterances in order, once; nothing if none is held out."""
        if not self.splits.heldout:
            return []
        return EvaluationLoader(
            Wholes(self.splits.heldout, self.heldout_samples, self.hop_length),
            self.batch_size,
            *self.ranks,
            num_workers=self.num_workers,
            collate=collate_padded,
        )
