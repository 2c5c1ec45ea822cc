"""Where a guidance gets its features: what every source offers, and the control that shuffles."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from kdlight.codec.alignment import Aligned
from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError
from kdlight.losses.guidance import masked_mean
from kdlight.noise import mix
from kdlight.spec import Recorded
from kdlight.teachers.frames import FrozenTeacher, Source, Waveform


class SpeechUtterance(Protocol):
    """What is asked of an utterance of the training data.

    Attributes:
        name: Unique in its data set; batches have it as ``path``.
        source: The file, or the samples (1, T).
        sample_rate: Rate of the samples and of :meth:`read`, Hz.
        transcript: What is said; empty if that is not known.
    """

    name: str
    source: Any
    sample_rate: int
    transcript: str

    def read(self) -> Tensor:
        """The samples, (1, T)."""
        ...


def source_of(utterance: SpeechUtterance) -> Source:
    """What a teacher is asked about an utterance: its file, or its samples where it has none."""
    if isinstance(utterance.source, Path):
        return utterance.source
    return Waveform(utterance.source, utterance.sample_rate, utterance.name)


class FeatureSource(Recorded):
    """Base of the sources.

    Attributes:
        teacher: Who is asked.
        width: Channels D of the features.
    """

    teacher: FrozenTeacher
    width: int

    def __init__(self) -> None:
        super().__init__()

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        """Compute before training what can be, this rank's share of it.

        Args:
            utterances: The training data.
            rank: Number of this process.
            world_size: Processes that share the work.
        """

    @abstractmethod
    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        """Features of whole utterances, (N, D) each: a teacher's own frames, or tokens."""

    @abstractmethod
    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        """The teacher's features for the codec's frames of a batch, without gradient.

        Args:
            batch: Of a data module of speech.
            grid: Grid of the codec; crops start on its frames.
            student: What they are compared with, (B, F, W).

        Returns:
            Features (B, F, D) and the mask (B, F) of the frames that have one.
        """


def crop_starts(batch: Mapping[str, Any]) -> list[int]:
    """First sample of every item of a batch in its utterance; 0 where the batch does not say."""
    if "start" not in batch:
        return [0] * len(batch["lengths"])
    starts: list[int] = batch["start"].tolist()
    return starts


class Pooled(FeatureSource):
    """The mean of another source over the frames that count, on every frame (FuseCodec's global).

    Args:
        source: Whose features.
    """

    def __init__(self, source: FeatureSource) -> None:
        super().__init__()
        self.source = source
        self.teacher = source.teacher
        self.width = source.width

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        self.source.prepare(utterances, rank, world_size)

    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        for features in self.source.examples(utterances):
            yield features.mean(dim=0, keepdim=True)

    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        found = self.source.features(batch, grid, student)
        pooled = masked_mean(found.features, found.mask)[:, None].expand_as(found.features)
        return Aligned(torch.where(found.mask[..., None], pooled, 0.0), found.mask)


class Shuffled(FeatureSource):
    """The control: the features of another source, in a wrong order.

    The student then gets targets of the same distribution that say nothing about its own frame. A
    gain that stays with shuffled targets was no gain from the teacher.

    Args:
        source: Whose features.
        by: ``items`` gives every item of the batch the next one's features, so time still matches
            no speech of its own (needs 2 items or more); ``frames`` permutes the frames of every
            item that count.
        seed: Of the permutation of frames, which is the same in every step for a length.

    Raises:
        InputError: ``by`` is another.
    """

    def __init__(
        self, source: FeatureSource, by: Literal["items", "frames"] = "items", seed: int = 0
    ) -> None:
        super().__init__()
        if by not in ("items", "frames"):
            raise InputError(f"by: expected 'items' or 'frames', found {by!r}.")
        self.source = source
        self.by = by
        self.seed = seed
        self.teacher = source.teacher
        self.width = source.width

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        self.source.prepare(utterances, rank, world_size)

    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        return self.source.examples(utterances)

    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        found = self.source.features(batch, grid, student)
        if self.by == "items":
            if len(student) < 2:
                raise InputError("shuffled items: expected a batch of at least 2 items, found 1.")
            # A frame needs a target of the other item and must itself be no padding.
            other = found.mask.roll(1, dims=0) & found.mask
            features = found.features.roll(1, dims=0)
            return Aligned(torch.where(other[..., None], features, 0.0), other)
        features = found.features.clone()
        for item, mask in enumerate(found.mask):
            places = mask.nonzero()[:, 0]
            generator = torch.Generator().manual_seed(mix(self.seed, len(places)))
            order = torch.randperm(len(places), generator=generator).to(places.device)
            features[item, places] = found.features[item, places[order]]
        return Aligned(features, found.mask)
