"""Features of a teacher of audio: heard in every step, or read from disk."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kdlight.codec.alignment import Aligned
from kdlight.codec.frames import FrameGrid, frame_mask, resample_frames
from kdlight.errors import InputError
from kdlight.guidance.sources import FeatureSource, SpeechUtterance, crop_starts, source_of
from kdlight.teachers.cache import FeatureCache
from kdlight.teachers.frames import FrameTeacher, Source


class SpeechSource(FeatureSource):
    """A speech model, or another teacher of audio, on the codec's frames.

    Without a cache the teacher hears the crops of every batch. With one it hears each utterance
    once, whole, before training, and crops are cut from that: cheaper from the second epoch on,
    and the frames at the borders of a crop know what lies beyond.

    Args:
        teacher: Who listens.
        cache: Folder for features; null asks the teacher in every step.
        dtype: In which they are kept; see :class:`~kdlight.teachers.cache.FeatureCache`.
    """

    teacher: FrameTeacher

    def __init__(
        self,
        teacher: FrameTeacher,
        cache: str | None = None,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.cache = cache
        self.dtype: Literal["float16", "float32"] = dtype
        self.width = teacher.width
        self._store: FeatureCache | None = None
        self._known: dict[str, Source] = {}

    @property
    def of_recordings(self) -> bool:
        return self.cache is not None

    def prepare(
        self, utterances: Sequence[SpeechUtterance], rank: int = 0, world_size: int = 1
    ) -> None:
        if self.cache is None:
            return
        self._known = {utterance.name: source_of(utterance) for utterance in utterances}
        self._store = FeatureCache(Path(self.cache), self.teacher, self.dtype)
        self._store.fill(list(self._known.values()), rank, world_size)

    def examples(self, utterances: Sequence[SpeechUtterance]) -> Iterator[Tensor]:
        for utterance in utterances:
            source = source_of(utterance)
            described = (
                self.teacher.describe(source) if self._store is None else self._store.get(source)
            )
            yield described["features"]

    def features(self, batch: Mapping[str, Any], grid: FrameGrid, student: Tensor) -> Aligned:
        if self._store is None:
            heard = self.teacher(batch["audio"], batch["lengths"], grid)
            return Aligned(heard.features, heard.mask)
        n_frames = student.shape[1]
        found = [
            self._cropped(self._store, name, start, grid, n_frames)
            for name, start in zip(batch["path"], crop_starts(batch), strict=True)
        ]
        features = torch.cat([each.features for each in found]).to(student.device)
        mask = torch.cat([each.mask for each in found]).to(student.device)
        mask &= frame_mask(batch["lengths"].to(student.device), grid.hop_length, n_frames)
        return Aligned(torch.where(mask[..., None], features, 0.0), mask)

    def _cropped(
        self, store: FeatureCache, name: str, start: int, grid: FrameGrid, n_frames: int
    ) -> Aligned:
        """Features (1, F, D) of the frames from sample ``start`` of ``grid`` on."""
        if name not in self._known:
            raise InputError(f"{name}: expected an utterance of the training data.")
        own = self.teacher.grid
        # Whole numbers throughout: an own frame is `unit` ticks, a sample of the codec is `tick`.
        unit, tick = own.hop_length * grid.sample_rate, own.sample_rate
        first = start * tick // unit
        last = -(-(start + n_frames * grid.hop_length) * tick // unit)
        kept = store.read(self._known[name], first, last - first)["features"][None]
        return Aligned(
            *resample_frames(
                kept,
                torch.ones(kept.shape[:2], dtype=torch.bool),
                FrameGrid(own.sample_rate, own.hop_length, first * own.hop_length),
                FrameGrid(grid.sample_rate, grid.hop_length, start),
                n_frames,
            )
        )
