"""How long calls take, side by side."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def median_seconds(
    calls: Sequence[Callable[[], object]], device: torch.device, repeats: int = 7
) -> list[float]:
    """Seconds of each call, medians of repeats that take turns, so that load hits all alike.

    Args:
        calls: What is timed.
        device: Where they run.
        repeats: Repeats after one warm-up.
    """
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(repeats + 1):
        for spent, call in zip(times, calls, strict=True):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat > 0:
                spent.append(time.perf_counter() - start)
    return [statistics.median(values) for values in times]
