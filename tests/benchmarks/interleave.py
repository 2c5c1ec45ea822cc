"""Timing of two things in turn, so that a noisy machine slows both alike."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pairs:
    """Times of two contestants that took turns.

    Attributes:
        name: What was compared.
        unit: What one time is the time of, such as "step".
        ours: Seconds per unit, one number a turn.
        theirs: Seconds per unit of the turns between.
    """

    name: str
    unit: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs: each turn over the turn of the other that follows it."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def row(self) -> str:
        """A line of the table."""
        ours, theirs = (statistics.median(times) * 1e6 for times in (self.ours, self.theirs))
        ratios = self.ratios
        return (
            f"{self.name:<58}{ours:>10.0f}{theirs:>10.0f}  us/{self.unit:<6}"
            f"{statistics.median(ratios):>7.3f}  [{min(ratios):.3f}, {max(ratios):.3f}]"
        )


HEADER = f"{'':<58}{'kdlight':>10}{'other':>10}{'':11}{'ratio':>7}  [min, max]"


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def take_turns(
    name: str, unit: str, ours: Callable[[], object], theirs: Callable[[], object], turns: int
) -> Pairs:
    """Call one, then the other, ``turns`` times over, after one call of each that is not timed."""
    pairs = Pairs(name, unit)
    ours()
    theirs()
    gc.collect()
    for _ in range(turns):
        pairs.ours.append(seconds(ours))
        pairs.theirs.append(seconds(theirs))
    return pairs
