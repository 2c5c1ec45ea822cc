"""Features of a language model, laid out over the frames of an utterance and cut to its crop."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdlight.codec.alignment import (
    Aligned,
    broadcast_alignment,
    index_alignment,
    joined_text,
    timed_alignment,
    token_times,
    uniform_alignment,
    window_alignment,
    words_within,
)
from kdlight.codec.frames import FrameGrid
from kdlight.core.ranges import NonNegativeInt
from kdlight.errors import InputError
from kdlight.guidance.sources import FeatureSource, SpeechUtterance, crop_starts
from kdlight.guidance.words import WordTimer, WordTimes
from kdlight.teachers.cache import FeatureCache
from kdlight.teachers.text import TextTeacher


class Told(NamedTuple):
    """A batch of texts and where their crops lie.

    Attributes:
        states: (B, L, D).
        tokens: Tokens that are text, (B, L), bool.
        read: These and the special ones that the model reads around them, (B, L), bool.
        times: Begin and end of every token, seconds, (B, L, 2); NaN where they are not known.
        sentence: (B, D).
        frames: Frames of what the text tells, the whole utterances or the crops, (B,); fewer where
            the model could not read the text to its end.
        first: First frame of the crops in that, (B,).
    """

    states: Tensor
    tokens: Tensor
    read: Tensor
    times: Tensor
    sentence: Tensor
    frames: Tensor
    first: Tensor


class TextAlignment:
    """Base of the ways from tokens to frames.

    Attributes:
        timed: Whether it needs word times.
        of_crop: Whether the model is told the words of the crop alone, and not the utterance's.
    """

    timed = False
    of_crop = False

    @abstractmethod
    def __call__(self, told: Told, grid: FrameGrid, student: Tensor) -> Aligned:
        """Features for the frames of the crops, as many as ``student`` (B, F, W) has."""


def cut(whole: Aligned, told: Told, n_frames: int) -> Aligned:
    """The crops of features of whole utterances."""
    place = told.first[:, None] + torch.arange(n_frames, device=told.first.device)
    inside = place < whole.mask.shape[1]
    place = place.clamp(max=whole.mask.shape[1] - 1)
    mask = whole.mask.gather(1, place) & inside
    wide = place[..., None].expand(-1, -1, whole.features.shape[2])
    return Aligned(torch.where(mask[..., None], whole.features.gather(1, wide), 0.0), mask)


class IndexAlignment(TextAlignment):
    """Token i of the crop's own words on frame i of the crop (``index``).

    As in DM-Codec's released code, which recognises and reads every cut of 3 s by itself; here a
    word belongs to the crop that has its middle.

    Args:
        special: Whether the model's special tokens have frames too, as in the release.
    """

    timed = True
    of_crop = True

    def __init__(self, special: bool = True) -> None:
        self.special = special

    def __call__(self, told: Told, grid: FrameGrid, student: Tensor) -> Aligned:
        spoken = told.tokens.any(dim=1, keepdim=True)
        counted = told.read & spoken if self.special else told.tokens
        return index_alignment(told.states, counted, told.frames, student.shape[1])


class UniformAlignment(TextAlignment):
    """Tokens spread evenly over the utterance (``uniform``)."""

    def __call__(self, told: Told, grid: FrameGrid, student: Tensor) -> Aligned:
        longest = int(told.frames.max())
        return cut(
            uniform_alignment(told.states, told.tokens, told.frames, longest),
            told,
            student.shape[1],
        )


class TimedAlignment(TextAlignment):
    """Tokens where they were said (``ctc``, ``asr``), by the times of the source's ``words``."""

    timed = True

    def __call__(self, told: Told, grid: FrameGrid, student: Tensor) -> Aligned:
        longest = int(told.frames.max())
        found = timed_alignment(told.states, told.times, told.tokens, told.frames, longest, grid)
        return cut(found, told, student.shape[1])


class WindowAlignment(TextAlignment):
    """Tokens on the frames near their even place that are most like them (``window``).

    See :func:`~kdlight.codec.alignment.window_alignment`. Only tokens whose even place lies within
    the crop, or a window beside it, are matched.

    Args:
        window: Frames to look at on each side.
    """

    def __init__(self, window: NonNegativeInt = 8) -> None:
        if window < 0:
            raise InputError(f"window: expected 0 or more frames, found {window}.")
        self.window = window

    def __call__(self, told: Told, grid: FrameGrid, student: Tensor) -> Aligned:
        return window_alignment(
            told.states, told.tokens, told.frames, student, self.window, told.first
        )


class SentenceAlignment(TextAlignment):
    """One vector for the whole text on every frame (``cls``)."""

    def __call__(self, told: Told, grid: FrameGrid, student: Tensor) -> Aligned:
        left = (told.frames - told.first).clamp(min=0)
        # An empty text has a vector too, which says nothing of the speech.
        spoken = told.tokens.any(dim=1)
        return broadcast_alignment(told.sentence, left * spoken, student.shape[1])


class TextSource(FeatureSource):
    """A language model's states of what is said, on the codec's frames.

    The text is the transcript of the data, or the words that ``words`` hears or aligns. A text is
    aligned with its whole utterance and then cut to the crop, so that a crop is compared with the
    words in it; :class:`IndexAlignment` alone has the crop's words read by themselves.

    Args:
        teacher: Who reads.
        alignment: From tokens to frames.
        words: When words were said; needed by :class:`TimedAlignment` and
            :class:`IndexAlignment`. With others it only replaces the transcript.
        cache: Folder for states and word times; null reads anew in every step, and keeps times in
            memory. Texts of crops are read anew in any case.

    Raises:
        InputError: The alignment needs times and there are none.
    """

    teacher: TextTeacher

    def __init__(
        self,
        teacher: TextTeacher,
        alignment: TextAlignment,
        words: WordTimer | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if alignment.timed and words is None:
            raise InputError(
                f"words: expected who tells word times for {type(alignment).__name__}, found none."
            )
        self.teacher = teacher
        self.alignment = alignment
        self.words = words
        self.cache = cache
        self.width = teacher.width
        folder = None if cache is None else Path(cache)
        self._times = None if words is None else WordTimes(words, folder)
        self._store: FeatureCache | None = None
        self._known: dict[str, SpeechUtterance] = {}

    @property
    def of_recordings(self) -> bool:
        return True

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        self._known = {utterance.name: utterance for utterance in utterances}
        own = utterances[rank::world_size]
        if self._times is not None:
            self._times.fill(utterances, rank, world_size)
            if not any(self._text(utterance) for utterance in (*own, *utterances)):
                raise InputError(
                    f"words: expected {type(self.words).__name__} to tell the words of an "
                    f"utterance, found none in {len(utterances)}."
                )
        elif not any(utterance.transcript for utterance in utterances):
            raise InputError("words: expected a recogniser, for the data have no transcripts.")
        if self.cache is not None and not self.alignment.of_crop:
            self._store = FeatureCache(Path(self.cache), self.teacher)
            self._store.fill(list(dict.fromkeys(self._text(utterance) for utterance in own)))

    def _text(self, utterance: SpeechUtterance) -> str:
        if self._times is None:
            return utterance.transcript
        return joined_text(self._times.get(utterance))

    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        for utterance in utterances:
            row = self._read(self._text(utterance))
            yield row["states"][row["tokens"]]

    def _read(self, text: str) -> dict[str, Tensor]:
        return self.teacher.describe(text) if self._store is None else self._store.get(text)

    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        found = self.alignment(self._told(batch, grid, student.device), grid, student)
        lengths = batch["lengths"].to(student.device)
        time = torch.arange(student.shape[1], device=student.device)
        mask = found.mask & (time * grid.hop_length < lengths[:, None])
        return Aligned(torch.where(mask[..., None], found.features, 0.0), mask)

    def _told(self, batch: Mapping[str, Any], grid: FrameGrid, device: torch.device) -> Told:
        starts, lengths = torch.tensor(crop_starts(batch)), batch["lengths"].cpu()
        whole = batch["total"].cpu() if "total" in batch else lengths
        rows, times, shares = [], [], []
        for item, (name, text) in enumerate(zip(batch["path"], batch["transcript"], strict=True)):
            if self._times is None:
                row = self._read(text)
                row_times = torch.full((len(row["tokens"]), 2), torch.nan, dtype=torch.float64)
            else:
                if name not in self._known:
                    raise InputError(f"{name}: expected an utterance of the training data.")
                words = self._times.get(self._known[name])
                if self.alignment.of_crop:
                    begin = int(starts[item]) / grid.sample_rate
                    words = words_within(
                        words, begin, begin + int(lengths[item]) / grid.sample_rate
                    )
                text = joined_text(words)
                row = self._read(text)
                row_times = token_times(words, row["offsets"])
            cut_off = len(row["tokens"]) >= self.teacher.limit
            shares.append(int(row["offsets"].max()) / len(text) if cut_off else 1.0)
            rows.append(row)
            times.append(row_times)
        if self.alignment.of_crop:
            starts, whole = torch.zeros_like(starts), lengths

        def padded(parts: list[Tensor], value: float = 0.0) -> Tensor:
            return pad_sequence(parts, batch_first=True, padding_value=value).to(device)

        return Told(
            padded([row["states"] for row in rows]),
            padded([row["tokens"] for row in rows]),
            padded([torch.ones_like(row["tokens"]) for row in rows]),
            padded(times, torch.nan),
            torch.stack([row["sentence"] for row in rows]).to(device),
            (-(-whole // grid.hop_length) * torch.tensor(shares)).ceil().long().to(device),
            (starts // grid.hop_length).to(device),
        )
