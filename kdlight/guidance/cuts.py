"""Which frames share a target: segments of a teacher's features, and the controls beside them."""

import itertools

import torch
from torch import Tensor

from kdlight.codec.syllables import Segments, greedy_segments, refine_segments
from kdlight.core.spec import Recorded


class Cut(Recorded):
    """Base of the cuts of one recording's features."""

    def __call__(self, features: Tensor, speech: Tensor, threshold: float, seed: int) -> Segments:
        """Segments in frames.

        Args:
            features: (F, D).
            speech: Frames of speech, (F,) bool.
            threshold: Cosine at which a frame belongs to a segment.
            seed: Of what is drawn; the same for the same crop.
        """
        raise NotImplementedError


class GreedyCut(Cut):
    """Where the features change (arXiv:2410.07168, section 3.2).

    Args:
        refine: Whether boundaries are moved and merged after the greedy cut.
    """

    def __init__(self, refine: bool = True) -> None:
        super().__init__()
        self.refine = refine

    def __call__(self, features: Tensor, speech: Tensor, threshold: float, seed: int) -> Segments:
        segments = greedy_segments(features, speech, threshold)
        return refine_segments(features, segments, threshold) if self.refine else segments


class RandomCut(GreedyCut):
    """The control: as many segments of each stretch of speech, their boundaries drawn at random."""

    def __call__(self, features: Tensor, speech: Tensor, threshold: float, seed: int) -> Segments:
        found = super().__call__(features, speech, threshold, seed)
        generator = torch.Generator().manual_seed(seed)
        stretches: list[list[int]] = []
        for start, stop in found:
            if stretches and stretches[-1][-1] == start:
                stretches[-1].append(stop)
            else:
                stretches.append([start, stop])
        drawn: Segments = []
        for edges in stretches:
            first, last, inner = edges[0], edges[-1], len(edges) - 2
            places = torch.randperm(last - first - 1, generator=generator)[:inner]
            places = (first + 1 + places).sort().values
            marks = [first, *places.tolist(), last]
            drawn += list(itertools.pairwise(marks))
        return drawn


class FrameCut(Cut):
    """The control: every frame has its own target."""

    def __call__(self, features: Tensor, speech: Tensor, threshold: float, seed: int) -> Segments:
        return [(place, place + 1) for place in speech.nonzero()[:, 0].tolist()]
