"""Timing of two things in turn, so that a noisy machine slows both alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch


class Clock(NamedTuple):
    """Seconds of wall time and of this process's CPU time, all threads together."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Clock":
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: "Clock") -> "Clock":
        return Clock(self.wall - start.wall, self.cpu - start.cpu)


@dataclass
class Pairs:
    """Times of kdlight and of something else that took turns.

    Attributes:
        name: What was compared.
        unit: What is counted, such as "step".
        count: How many of them one turn holds.
        ours: kdlight's turns.
        theirs: The turn of the other that followed each of them.
    """

    name: str
    unit: str
    count: int
    ours: list[Clock] = field(default_factory=list)
    theirs: list[Clock] = field(default_factory=list)

    def row(self) -> str:
        """A line of the table: medians of times and of the ratios of neighbouring turns."""
        ours, theirs = (
            statistics.median(turn.wall for turn in turns) / self.count * 1e3
            for turns in (self.ours, self.theirs)
        )
        pairs = list(zip(self.ours, self.theirs, strict=True))
        wall = [a.wall / b.wall for a, b in pairs]
        cpu = [a.cpu / b.cpu for a, b in pairs]
        ratios = "".join(
            f"{statistics.median(found):9.3f} [{min(found):.2f}, {max(found):.2f}]"
            for found in (wall, cpu)
        )
        return f"{self.name:<50}{ours:9.2f}{theirs:9.2f} {self.unit:<8}{ratios}"


HEADER = (
    f"{'median milliseconds, ratios kdlight / other':<50}{'kdlight':>9}{'other':>9} {'a':<8}"
    f"{'wall':>9} {'[min, max]':<12}{'CPU':>9} [min, max]"
)


def take_turns(
    name: str, unit: str, ours: Callable[[], object], theirs: Callable[[], object], turns: int
) -> Pairs:
    """Call one, then the other, ``turns`` times over, after a first call of each to warm up."""
    pairs = Pairs(name, unit, 1)
    ours()
    theirs()
    for _ in range(turns):
        for call, times in ((ours, pairs.ours), (theirs, pairs.theirs)):
            start = Clock.now()
            call()
            times.append(Clock.now().since(start))
    return pairs
