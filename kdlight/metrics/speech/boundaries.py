"""Do boundaries fall where they should? Precision, recall, F1, R-value, over-segmentation."""

import itertools
from collections.abc import Sequence

from torch import Tensor

from kdlight.metrics.base import SampleMetric

Window = tuple[float, float]
"""From and to, seconds."""


class BoundaryScores(SampleMetric):
    """Boundaries found against where true ones lie, over recordings.

    A found boundary is right if it lies in a window that no other has been matched with.
    ``compute()`` returns ``precision``, ``recall``, ``f1``, ``r_value`` and ``over_segmentation``,
    each behind ``prefix``.

    The R-value (Räsänen et al. 2009) is 1 for a perfect cut and, unlike F1, falls for boundaries
    strewn everywhere: ``1 - (r1 + r2) / 2`` with ``r1 = sqrt((1 - HR)^2 + OS^2)`` and
    ``r2 = |HR - OS - 1| / sqrt 2``, ``HR`` the recall and ``OS = recall / precision - 1``.

    Args:
        prefix: Of the names of the figures.
    """

    higher_is_better = True
    right: Tensor
    found: Tensor
    true: Tensor

    def __init__(self, prefix: str = "boundary_") -> None:
        super().__init__()
        self.prefix = prefix
        kinds = ("precision", "recall", "f1", "r_value", "over_segmentation")
        self.names = tuple(prefix + kind for kind in kinds)
        self.add_sums(right=(), found=(), true=())

    def update(self, found: Sequence[float], windows: Sequence[Window]) -> None:
        """Add one recording.

        Args:
            found: Boundaries, seconds, rising.
            windows: Where true boundaries may lie, starts and ends rising.
        """
        self.add_to("right", matches(found, windows))
        self.add_to("found", len(found))
        self.add_to("true", len(windows))

    def enough(self) -> bool:
        return bool(self.true > 0)

    def figures(self) -> dict[str, Tensor]:
        precision = self.right / self.found.clamp(min=1)
        recall = self.right / self.true
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        over = self.found / self.true - 1
        values = (precision, recall, f1, r_value(recall, over), over)
        return dict(zip(self.names, values, strict=True))


def matches(found: Sequence[float], windows: Sequence[Window]) -> int:
    """Most pairs of a boundary and a window around it, each used once."""
    count = place = 0
    for boundary in found:
        # The small term keeps times on the grid of frames from falling out by rounding.
        while place < len(windows) and windows[place][1] < boundary - 1e-9:
            place += 1
        if place < len(windows) and windows[place][0] <= boundary + 1e-9:
            count += 1
            place += 1
    return count


def around(boundaries: Sequence[float], tolerance: float) -> list[Window]:
    """Windows of ``tolerance`` seconds to both sides of true boundaries."""
    return [(time - tolerance, time + tolerance) for time in boundaries]


def between(nuclei: Sequence[Window], tolerance: float) -> list[Window]:
    """Windows from the end of each syllable's vowel to the start of the next one's.

    To which syllable a consonant between two vowels belongs is a matter of convention.
    """
    pairs = itertools.pairwise(nuclei)
    return [(first[1] - tolerance, second[0] + tolerance) for first, second in pairs]


def edges(segments: Sequence[Window]) -> list[float]:
    """Starts and ends of segments, each time once; what two segments share counts once."""
    return sorted({round(time, 6) for segment in segments for time in segment})


def joints(segments: Sequence[Window]) -> list[float]:
    """Where one segment gives way to the next; in the middle of a gap between them."""
    return [(first[1] + second[0]) / 2 for first, second in itertools.pairwise(segments)]


def r_value(recall: Tensor, over_segmentation: Tensor) -> Tensor:
    """R-value of recall and over-segmentation, as shares."""
    first = ((1 - recall) ** 2 + over_segmentation**2).sqrt()
    second = (recall - over_segmentation - 1).abs() / 2**0.5
    return 1 - (first + second) / 2
