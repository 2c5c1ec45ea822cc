"""Real-time factors: seconds of work for a second of audio, on one thread."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric

Result = TypeVar("Result")


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch's operators on one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class RealTimeFactor(Metric):
    """Seconds of work for each second of audio, summed over ranks; below 1 is faster than real.

    ``compute()`` returns ``cpu``, from the processor time of this process, and ``wall``, from the
    clock; () each, NaN before any audio. Processor time does not see what a GPU does.
    """

    is_differentiable = False
    full_state_update = False
    cpu_seconds: Tensor
    wall_seconds: Tensor
    audio_seconds: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("cpu_seconds", "wall_seconds", "audio_seconds"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, cpu: float, wall: float, audio: float) -> None:
        """Add the seconds that some work took and the seconds of audio it was for."""
        self.cpu_seconds += cpu
        self.wall_seconds += wall
        self.audio_seconds += audio

    def timed(self, work: Callable[[], Result], audio: float) -> Result:
        """Do ``work`` for ``audio`` seconds of audio on one thread, and add what it took."""
        with single_thread():
            cpu, wall = time.process_time(), time.perf_counter()
            result = work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.update(time.process_time() - cpu, time.perf_counter() - wall, audio)
        return result

    def compute(self) -> dict[str, Tensor]:
        """The factors, float64."""
        return {
            "cpu": self.cpu_seconds / self.audio_seconds,
            "wall": self.wall_seconds / self.audio_seconds,
        }
