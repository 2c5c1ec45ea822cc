"""Encoding many segments, several at once where each has the codes that it has alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.errors import InputError
from kdlight.storage.audio import resampled_length
from kdlight.storage.segments import Segment


class Coded(NamedTuple):
    """What became of a segment, on the CPU.

    Attributes:
        codes: (n_q, F).
        samples: Length at the codec's rate.
        scales: (pieces,), of a codec of pieces that divides by them.
        channels: Of the audio that was coded.
    """

    codes: Tensor
    samples: int
    scales: Tensor | None
    channels: int = 1


class BatchedEncoder:
    """Codes of segments; a batch is coded when the first of it is asked for.

    Segments share a batch if the codec brings them to one length, so that none is heard with the
    padding of another.

    Args:
        codec: In evaluation mode.
        segments: All that will be asked for, best in the order of :attr:`lengths`.
        n_q: Levels; all if None.
        size: Segments of a batch at most.

    Attributes:
        lengths: Samples that are coded of each segment; 0 if it cannot be read.
    """

    def __init__(
        self, codec: Codec, segments: Sequence[Segment], n_q: int | None, size: int
    ) -> None:
        self.codec, self.n_q = codec, n_q
        self.lengths = {segment: self._coded_samples(segment) for segment in segments}
        alike: dict[tuple[int, bool], list[Segment]] = {}
        for segment, length in self.lengths.items():
            mixed = length == 0 or segment.info().channels != codec.audio_channels
            alike.setdefault((length, mixed), []).append(segment)
        self._batch_of = {
            segment: group[index - index % size :][:size]
            for group in alike.values()
            for index, segment in enumerate(group)
        }
        self._found: dict[Segment, Coded | InputError] = {}

    def _coded_samples(self, segment: Segment) -> int:
        try:
            samples = resampled_length(segment.info(), self.codec.sample_rate)
        except InputError:
            return 0  # it is complained about in its turn
        return self.codec.coded_samples(samples)

    def __call__(self, segment: Segment) -> Coded:
        """Codes of one of the segments.

        Raises:
            InputError: It is damaged, empty, or holds a NaN.
        """
        if segment not in self._found:
            self._found = self._code(self._batch_of[segment])
        found = self._found[segment]
        if isinstance(found, InputError):
            raise found
        return found

    def _code(self, batch: Sequence[Segment]) -> dict[Segment, Coded | InputError]:
        found: dict[Segment, Coded | InputError] = {}
        audio: dict[Segment, Tensor] = {}
        for segment in batch:
            try:
                audio[segment] = segment.read(self.codec.sample_rate, self.codec.audio_channels)
            except InputError as error:
                found[segment] = error
        if audio:
            where = next(self.codec.parameters()).device
            length = max(each.shape[-1] for each in audio.values())
            filled = [F.pad(each, (0, length - each.shape[-1])) for each in audio.values()]
            together = torch.stack(filled).to(where)
            codes = self.codec.encode(together, self.n_q).cpu()
            scales = self.codec.scales(together)
            for index, (segment, own) in enumerate(audio.items()):
                divided = None if scales is None else scales[index].cpu()
                found[segment] = Coded(codes[index], own.shape[-1], divided, len(own))
        return found
