"""A part of a law of noise levels."""

from torch import Tensor

from kdlight.core.ranges import Probability
from kdlight.diffusion.sigmas import NoiseLaw
from kdlight.errors import InputError


class CutLaw(NoiseLaw):
    """A law without its ends: what it makes of ``start + (stop - start) u``.

    DMD2 (arXiv:2405.14867) compares scores at the timesteps 20 to 980 of 0 to 999: start 0.02 and
    stop 0.981 of ``TimestepNoise``.

    Args:
        law: The law.
        start: Share of the smallest levels to leave out.
        stop: Share of all levels below the largest that are left out.
    """

    def __init__(self, law: NoiseLaw, start: Probability = 0.0, stop: Probability = 1.0) -> None:
        if not start < stop:
            raise InputError(f"stop: expected more than start, {start}, found {stop}.")
        self.law, self.start, self.stop = law, start, stop

    def __call__(self, uniform: Tensor) -> Tensor:
        return self.law(self.start + (self.stop - self.start) * uniform.double())
