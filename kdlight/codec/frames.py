"""Where the frames of a codec and of a teacher lie in time, and how one becomes the other.

All arithmetic is on whole numbers, so that the last frame of an hour of audio is as exact as the
first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.errors import InputError


class FrameGrid(NamedTuple):
    """Frame k stands for the samples ``start + k hop_length`` up to ``start + (k+1) hop_length``.

    Attributes:
        sample_rate: Samples per second.
        hop_length: Samples of a frame.
        start: First sample of frame 0; 0 for every codec of kdlight.
    """

    sample_rate: int
    hop_length: int
    start: int = 0

    def frames(self, samples: Tensor | int) -> Tensor | int:
        """Frames that hold at least one of the samples 0 up to ``samples``, for ``start`` 0."""
        return -(-samples // self.hop_length)


class Convolutions(NamedTuple):
    """A stack of strided convolutions, as one with a wide kernel.

    Attributes:
        hop_length: Product of the strides.
        receptive_field: Samples that one frame sees.
    """

    hop_length: int
    receptive_field: int

    @classmethod
    def of(cls, kernels: Sequence[int], strides: Sequence[int]) -> "Convolutions":
        """From the kernel sizes and strides of unpadded layers, in order."""
        hop, field = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return cls(hop, field)

    def padding(self, samples: int) -> tuple[int, int]:
        """Zeros on both sides that give one frame per hop, each centred on its own samples.

        Unpadded, frame k sees ``k hop`` to ``k hop + field``, so its centre is ``(field - hop) /
        2`` samples late of the codec frame's ``k hop + hop / 2``. That many zeros on the left undo
        it. On the right as many, and what fills the last hop, leave exactly ``ceil(samples / hop)``
        frames. HuBERT and its kin have a hop of 320 and a field of 400 samples: 40 on each side.
        The 160 on each side of some recipes also give the right count, but centre the teacher's
        frames 120 samples (7.5 ms) early; no padding loses a frame and centres 2.5 ms late.
        """
        half = (self.receptive_field - self.hop_length) // 2
        rest = self.receptive_field - self.hop_length - half
        return half, rest + -samples % self.hop_length


def overlap_weights(source: FrameGrid, target: FrameGrid, n_source: int, n_target: int) -> Tensor:
    """Share of each source frame in each target frame, by the time they have in common.

    Args:
        source: Grid of the features at hand.
        target: Grid that is wanted.
        n_source: Frames of the source.
        n_target: Frames of the target.

    Returns:
        (n_target, n_source), float64; a row sums to 1, or to 0 if no source frame touches it.
    """
    # In units of 1 / (rate of source * rate of target) seconds every edge is a whole number.
    edges = [
        (grid.start + grid.hop_length * torch.arange(frames + 1)) * other.sample_rate
        for grid, frames, other in ((source, n_source, target), (target, n_target, source))
    ]
    low = torch.maximum(edges[0][None, :-1], edges[1][:-1, None])
    high = torch.minimum(edges[0][None, 1:], edges[1][1:, None])
    overlap = (high - low).clamp(min=0).double()
    return overlap / overlap.sum(dim=1, keepdim=True).clamp(min=1)


def resample_frames(
    features: Tensor,
    mask: Tensor,
    source: FrameGrid,
    target: FrameGrid,
    n_target: int,
) -> tuple[Tensor, Tensor]:
    """Features on another grid: the mean of the source frames, weighted by common time.

    Grids that agree return the same bits. A lower rate averages, a higher one repeats.

    Args:
        features: (B, F, D).
        mask: Frames that count, (B, F), bool; the others have no share.
        source: Grid of ``features``.
        target: Grid that is wanted.
        n_target: Frames to return; those that no source frame touches are zero and masked.

    Returns:
        Features (B, n_target, D) and their mask (B, n_target), bool.

    Raises:
        InputError: ``features`` is not 3-D, or the mask does not fit.
    """
    if features.ndim != 3 or mask.shape != features.shape[:2]:
        raise InputError(
            f"features and mask: expected (B, F, D) and (B, F), "
            f"found {tuple(features.shape)} and {tuple(mask.shape)}."
        )
    features = torch.where(mask[..., None], features, torch.zeros_like(features))
    n_source = features.shape[1]
    same = source.hop_length * target.sample_rate == target.hop_length * source.sample_rate
    if same and source.start * target.sample_rate == target.start * source.sample_rate:
        short = (0, 0, 0, max(0, n_target - n_source))
        features = torch.nn.functional.pad(features, short)[:, :n_target]
        return features, torch.nn.functional.pad(mask, short[2:])[:, :n_target]
    weights = overlap_weights(source, target, n_source, n_target).to(features.device)
    shares = weights[None] * mask[:, None]
    total = shares.sum(dim=2, keepdim=True)
    found = (shares / torch.where(total > 0, total, 1.0)).to(features.dtype) @ features
    return found, total[..., 0] > 0


def frame_mask(lengths: Tensor, hop_length: int, n_frames: int) -> Tensor:
    """Frames that hold a sample of the utterance: (B,) samples to (B, n_frames), bool."""
    frames = -(-lengths // hop_length)
    return torch.arange(n_frames, device=lengths.device) < frames[:, None]


def half_masks(mask: Tensor) -> tuple[Tensor, Tensor]:
    """First and second half of the frames that count, (B, F) bool; an odd one is in the second."""
    place = mask.cumsum(dim=1)
    late = 2 * place > place[:, -1:]
    return mask & ~late, mask & late
