"""Where a guidance gets its features: what every source offers, and the control that shuffles."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from kdlight.codec.alignment import Aligned
from kdlight.codec.frames import FrameGrid, frame_mask
from kdlight.core.noise import mix
from kdlight.core.ranges import NonNegativeInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.losses.guidance import masked_mean
from kdlight.teachers.frames import FrozenTeacher, Source, Waveform


class SpeechUtterance(Protocol):
    """What is asked of an utterance of the training data.

    Attributes:
        name: Unique in its data set; batches have it as ``path``.
        source: The file, or the samples (1, T).
        samples: Its length at its rate.
        sample_rate: Rate of the samples and of :meth:`read`, Hz.
        transcript: What is said; empty if that is not known.
        speaker: Who says it; empty if that is not known.
    """

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> Any: ...
    @property
    def samples(self) -> int: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def transcript(self) -> str: ...
    @property
    def speaker(self) -> str: ...

    def read(self, start: int = 0, samples: int | None = None) -> Tensor:
        """The samples, (1, T), or as many as there are of those from ``start`` on."""
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
        of_recordings: Whether what it says of a crop is looked up by the crop's place in its
            recording, which a varied crop has not.
    """

    teacher: FrozenTeacher
    width: int

    def __init__(self) -> None:
        super().__init__()

    @property
    def of_recordings(self) -> bool:
        return False

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
    """First sample of every item of a batch in its utterance; 0 where the batch does not say.

    Raises:
        InputError: The crops are varied, and lie nowhere.
    """
    if "varied" in batch:
        raise InputError(
            "data.init_args.variation: expected null where the place of a crop in its recording "
            "is asked for, found a SpeechVariation."
        )
    if "start" not in batch:
        return [0] * len(batch["lengths"])
    starts: list[int] = batch["start"].tolist()
    return starts


def check_places(data: Any, sources: Iterable[FeatureSource]) -> None:
    """Refuse varied crops where something is looked up by their place.

    Args:
        data: A data module of speech.
        sources: What is asked about its batches.

    Raises:
        InputError: Both are there.
    """
    if getattr(data, "variation", None) is not None and any(s.of_recordings for s in sources):
        raise InputError(
            "data.init_args.variation: expected null, for a guidance looks up whole recordings "
            "(words, or features in a cache; a SpeechSource with cache: null hears the crops), "
            "found a SpeechVariation."
        )


class Nobody(FrozenTeacher):
    """No model: what a source says is known without one."""

    def describe(self, source: Source) -> dict[str, Tensor]:
        return {}


class CorpusSource(FeatureSource):
    """Whether a recording is of a target corpus: one channel, 1 or 0 in every frame.

    Args:
        target: The ``speaker`` that the data give the recordings of the target corpus: of a folder
            of audio, the name of its subfolder.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.teacher = Nobody()
        self.width = 1

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        found = {utterance.speaker == self.target for utterance in utterances}
        if found != {True, False}:
            names = sorted({utterance.speaker for utterance in utterances})
            raise InputError(
                "target: expected a speaker of some of the training recordings, such as "
                f"{', '.join(map(repr, names[:3]))}, found {self.target!r}."
            )

    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        for utterance in utterances:
            yield torch.tensor([[float(utterance.speaker == self.target)]])

    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        own = [speaker == self.target for speaker in batch["speaker"]]
        target = torch.tensor(own, dtype=student.dtype, device=student.device)
        mask = frame_mask(batch["lengths"].to(student.device), grid.hop_length, student.shape[1])
        return Aligned(target[:, None, None] * mask[..., None], mask)


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

    @property
    def of_recordings(self) -> bool:
        return self.source.of_recordings

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
        by: ``items`` gives every crop the features of a crop of another utterance, which depends on
            the crop alone and not on its batch; ``frames`` permutes the frames of every item that
            count.
        seed: Of the other utterances and of the permutation, which is the same in every step for a
            length.

    Raises:
        InputError: ``by`` is another.
    """

    def __init__(
        self,
        source: FeatureSource,
        by: Literal["items", "frames"] = "items",
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if by not in ("items", "frames"):
            raise InputError(f"by: expected 'items' or 'frames', found {by!r}.")
        self.source = source
        self.by = by
        self.seed = seed
        self.teacher = source.teacher
        self.width = source.width
        self._known: list[SpeechUtterance] = []
        self._places: dict[str, int] = {}

    @property
    def of_recordings(self) -> bool:
        return self.by == "items" or self.source.of_recordings

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        if self.by == "items" and len(utterances) < 2:
            raise InputError(
                "by: expected 2 training utterances or more to shuffle items, found "
                f"{len(utterances)}."
            )
        self._known = list(utterances)
        self._places = {utterance.name: place for place, utterance in enumerate(utterances)}
        self.source.prepare(utterances, rank, world_size)

    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        return self.source.examples(utterances)

    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        if self.by == "items":
            found = self.source.features(self._exchanged(batch, grid), grid, student)
            lengths = batch["lengths"].to(student.device)
            mask = found.mask & frame_mask(lengths, grid.hop_length, student.shape[1])
            return Aligned(torch.where(mask[..., None], found.features, 0.0), mask)
        found = self.source.features(batch, grid, student)
        features = found.features.clone()
        for item, mask in enumerate(found.mask):
            places = mask.nonzero()[:, 0]
            generator = torch.Generator().manual_seed(mix(self.seed, len(places)))
            order = torch.randperm(len(places), generator=generator).to(places.device)
            features[item, places] = found.features[item, places[order]]
        return Aligned(features, found.mask)

    def _exchanged(self, batch: Mapping[str, Any], grid: FrameGrid) -> dict[str, Any]:
        """The batch with a crop of another utterance in the place of each."""
        samples = batch["audio"].shape[-1]
        others, starts, audio = [], [], torch.zeros_like(batch["audio"])
        for item, (name, start) in enumerate(zip(batch["path"], crop_starts(batch), strict=True)):
            if name not in self._places:
                raise InputError(f"{name}: expected an utterance of the training data.")
            step = 1 + mix(self.seed, self._places[name], start) % (len(self._known) - 1)
            other = self._known[(self._places[name] + step) % len(self._known)]
            # As far into the other as the crop lies in its own, or at its end.
            last = max(0, other.samples - samples) // grid.hop_length * grid.hop_length
            others.append(other)
            starts.append(min(start, last))
            heard = other.read(starts[-1], samples)
            audio[item, :, : heard.shape[-1]] = heard
        total = torch.tensor([other.samples for other in others])
        begin = torch.tensor(starts)
        return {
            **batch,
            "audio": audio,
            "start": begin,
            "lengths": (total - begin).clamp(max=samples),
            "total": total,
            "path": [other.name for other in others],
            "transcript": [other.transcript for other in others],
        }
