"""Has a student begun to copy its teacher's faults? (Tiapkin et al., arXiv:2502.02671)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.02
"""Rise of the golden figure, as a share of its best, that is no noise."""


@dataclass(frozen=True)
class Hacking:
    """What two curves over training say.

    Attributes:
        verdict: ``hacked``, the golden figure rose while the held-out proxy fell further;
            ``over-fitted``, both rose; ``none``.
        best: Where the golden figure was best, an index of the curves.
        rise: How far it is above its best in the end, as a share of it.
    """

    verdict: Literal["none", "hacked", "over-fitted"]
    best: int
    rise: float


def judge_curves(golden: Sequence[float], proxy: Sequence[float]) -> Hacking:
    """Judge a run by its distance to the truth and to its teacher on held-out data.

    Args:
        golden: Distances to the truth, in the order of training.
        proxy: Distances to the teacher at the same times.
    """
    best = min(range(len(golden)), key=golden.__getitem__)
    later = range(best + 1, len(golden))
    rise = golden[-1] / golden[best] - 1
    risen = [at for at in later if golden[at] > golden[best] * (1 + TOLERANCE)]
    if any(proxy[at] < proxy[best] for at in risen):
        return Hacking("hacked", best, rise)
    return Hacking("over-fitted" if rise > TOLERANCE else "none", best, rise)
